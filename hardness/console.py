"""What the user sees while a stage works: lines, tables, and progress bars on a terminal."""

import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.tree import Tree

# Of many processes that do the same the first speaks.
_is_silent = os.environ.get("WORLD_SIZE", "1") not in ("", "1") and os.environ.get("RANK", "0") != "0"
_out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160, quiet=_is_silent)
_err = Console(stderr=True, highlight=False, soft_wrap=True, quiet=_is_silent)


def say(text: str) -> None:
    """One line; nothing in it is markup."""
    _out.print(text, markup=False, emoji=False)


def say_time_left(unit: str, seconds: float, num_left: int) -> None:
    """What one took, and the rest will; on a terminal a bar says it."""
    if num_left and not _draws():
        minutes = seconds * num_left / 60
        say(f"{unit} takes {seconds:.1f} s; {num_left} more: {minutes:.1f} minutes")


def remark(text: str) -> None:
    """One line beside what is asked for, on stderr."""
    _write_beside(escape(text))


def warn(text: str) -> None:
    _write_beside(f"[yellow]warning:[/] {escape(text)}")


def _write_beside(markup: str) -> None:
    if _is_silent:
        return
    # Not printed at once: while bars are drawn, sys.stderr puts what it is given above them.
    with _err.capture() as told:
        _err.print(markup, emoji=False)
    sys.stderr.write(told.get())


def _draws() -> bool:
    """Is stdout a terminal that can draw a line anew?"""
    return _out.is_terminal and not _out.is_dumb_terminal and not _is_silent


def _screen() -> dict[str, Any]:
    """Where bars are drawn; what is written to stderr meanwhile goes above them, unless to a file."""
    return {"console": _out, "redirect_stderr": _err.is_terminal}


_BAR = (
    TextColumn("{task.description}", markup=False),
    BarColumn(),
    MofNCompleteColumn(),
    TimeRemainingColumn(elapsed_when_finished=True),
)


def progress(steps: Iterable[Any], total: int, label: str) -> Iterator[Any]:
    """Yield ``steps`` under a progress bar with the time left; silent where stdout is no terminal."""
    with Progress(*_BAR, **_screen(), transient=True, disable=not _draws()) as bars:
        yield from bars.track(steps, total=total, description=label)


class Epochs:
    """The epochs of training, told as they go by: used as a context while it lasts.

    On a terminal: a bar of all of them with the time left, above it the numbers of the last few; what is said
    meanwhile scrolls above both. Elsewhere: a line an epoch, if ``lines``.

    ``total`` epochs in all, of which ``done`` are done.
    """

    def __init__(self, total: int, done: int = 0, lines: bool = True):
        self._says = lines and not _draws()
        self._last: list[dict[str, str]] = []
        # The time left is by the mean of all epochs since we began but the first, which warms up.
        self._bar = Progress(*_BAR, speed_estimate_period=math.inf)
        self._task = self._bar.add_task("", total=total, completed=done)
        self._live = Live(**_screen(), get_renderable=self._view) if _draws() else None

    def begin(self, name: str) -> None:
        """Say what is at work from now on; it has no epochs yet."""
        self._last = []
        self._bar.update(self._task, description=name)

    def add(self, numbers: dict[str, str]) -> None:
        """Another epoch is done: which, as ``epoch``, and what it came to, by name."""
        # A new list, since the old one may just be drawn, by a thread of rich's.
        self._last = [*self._last, numbers][-5:]
        self._bar.advance(self._task)
        if self._says:
            epoch, *others = (f"{name} {value}" for name, value in numbers.items())
            say(f"{epoch}: {', '.join(others)}")

    def _view(self) -> Group:
        last = self._last
        above = [_table("", list(last[0]), (numbers.values() for numbers in last))] if last else []
        return Group(*above, self._bar)

    def __enter__(self) -> "Epochs":
        if self._live:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()


class Runs:
    """The runs of a plan, told as they go by: used as a context while it lasts.

    On a terminal: a bar of all of them, below it one for each that is at work. Elsewhere: a line a run.
    """

    def __init__(self, total: int, done: int):
        self._bars = Progress(*_BAR, **_screen(), disable=not _draws())
        self._all = self._bars.add_task("runs", total=total, completed=done)
        self._tasks: dict[str, TaskID] = {}
        self._total, self._done = total, done

    def begin(self, name: str, total: int, done: int) -> None:
        """A run of so many epochs, if it trains at all, of which some are done."""
        self._tasks[name] = self._bars.add_task(name, total=total or None, completed=done)

    def advance(self, name: str, done: int) -> None:
        self._bars.update(self._tasks[name], completed=done)

    def end(self, name: str, how: str) -> None:
        """Say how it came out."""
        self._bars.remove_task(self._tasks.pop(name))
        self._bars.advance(self._all)
        self._done += 1
        say(f"[{self._done}/{self._total}] {name}: {how}")

    def __enter__(self) -> "Runs":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()


def tree(view: Tree) -> None:
    _out.print(view)


def facts(title: str, rows: Iterable[tuple[str, str]]) -> None:
    """Names, and what they are beside them, wrapped where it is long."""
    view = Table.grid(padding=(0, 2, 0, 0))
    view.title, view.title_justify, view.title_style = escape(title), "left", "bold"
    view.add_column(style="dim", no_wrap=True)
    view.add_column(overflow="fold")
    for name, what in rows:
        view.add_row(escape(name), escape(what))
    _out.print(view, soft_wrap=False, width=min(_out.width, 100))


def sparkline(values: Sequence[float | None], width: int = 40) -> str:
    """A character a value, from the least to the greatest in eight levels; blank where there is none.

    Of more than ``width`` values, means of neighbours. In ASCII where stdout takes no other.
    """
    levels = "▁▂▃▄▅▆▇█"
    try:
        levels.encode(getattr(_out.file, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        levels = "_.-~=+*#"
    width = min(width, len(values))
    bins = [values[len(values) * k // width : len(values) * (k + 1) // width] for k in range(width)]
    known = [[value for value in each if value is not None and math.isfinite(value)] for each in bins]
    means = [fmean(each) if each else None for each in known]
    least = min((mean for mean in means if mean is not None), default=0)
    step = (max((mean for mean in means if mean is not None), default=0) - least) / len(levels) or 1
    return "".join(
        " " if mean is None else levels[min(int((mean - least) / step), len(levels) - 1)] for mean in means
    )


def table(title: str, header: list[str], rows: Iterable[Iterable[Any]]) -> None:
    """A small table: text to the left, numbers as given to the right.

    Where it is wider than the terminal, that breaks its lines: a number that is cut off is another one.
    """
    view = _table(title, header, rows)
    width = Measurement.get(_out, _out.options.update(max_width=10_000), view).maximum
    _out.print(view, width=max(width, _out.width), crop=False)


def _table(title: str, header: list[str], rows: Iterable[Iterable[Any]]) -> Table:
    view = Table(title=escape(title), title_justify="left", box=None, padding=(0, 2, 0, 0))
    for index, name in enumerate(header):
        view.add_column(escape(name), justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        view.add_row(*(escape(str(cell)) for cell in row))
    return view

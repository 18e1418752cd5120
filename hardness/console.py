"""What the user sees while a stage works: lines, tables, and progress bars on a terminal."""

import io
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from hardness.shortening import Shortener
from hardness.tables import lines

# None: the terminal's, or what COLUMNS says.
_width = None if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit() else 160
_out = Console(highlight=False, soft_wrap=True, width=_width)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def silence() -> None:
    """Print nothing from now on: of several processes that do the same, only the first prints."""
    _out.quiet = _err.quiet = True


def escape_unencodable() -> None:
    """From now on stdout, too, writes escaped what its encoding lacks, as stderr always does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


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
    if _err.quiet:
        return
    # Not printed at once: while bars are drawn, sys.stderr puts what it is given above them.
    with _err.capture() as told:
        _err.print(markup, emoji=False)
    sys.stderr.write(told.get())


def _draws() -> bool:
    """Is stdout a terminal that can draw a line anew?"""
    return _out.is_terminal and not _out.is_dumb_terminal and not _out.quiet


def _screen() -> dict[str, Any]:
    """Where bars are drawn; what is written to stderr meanwhile goes above them, unless to a file."""
    return {"console": _out, "redirect_stderr": _err.is_terminal}


_BAR = (
    TextColumn("{task.description}", markup=False),
    # As wide as there is room for beside the rest, none of which is cut.
    BarColumn(bar_width=None),
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
        if not last:
            return Group(self._bar)
        shown = list(last[0])
        # A number that is cut off is another one: columns that don't fit are left out, from the right.
        while True:
            view = _table(shown, ([numbers[name] for name in shown] for numbers in last))
            if len(shown) == 1 or max(map(cell_len, view.plain.splitlines())) <= _out.width:
                return Group(view, self._bar)
            shown.pop()

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
    view.add_column(style="dim", no_wrap=True)
    view.add_column(overflow="fold")
    for name, what in rows:
        view.add_row(escape(name), escape(what))
    if title:
        # On a line of its own: a long path in it can be copied.
        _out.print(title, markup=False, emoji=False, style="bold", soft_wrap=True)
    _out.print(view, soft_wrap=False, width=min(_out.width, 100))


def sparkline(values: Sequence[float | None], width: int = 40) -> str:
    """A character a value, from the least to the greatest in eight levels; blank where there is none.

    Of more than ``width`` values, means of neighbours. In ASCII where stdout takes no other.
    """
    levels = "▁▂▃▄▅▆▇█"
    if not _can_write(levels):
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


def table(title: str, header: Sequence[Any], rows: Iterable[Iterable[Any]]) -> None:
    """A small table: text to the left, numbers as given to the right.

    Cells and headers that are a ``Name`` or a ``Location`` are shortened where the terminal is too narrow.
    Where that is not enough the terminal breaks the lines: a number that is cut off is another one.
    """
    if title:
        _out.print(title, markup=False, emoji=False, style="table.title", soft_wrap=True)
    _out.print(_table(header, rows), soft_wrap=True)


def _table(header: Sequence[Any], rows: Iterable[Iterable[Any]]) -> Text:
    short = Shortener(_writable, "…" if _can_write("…") else "...")
    above, below = lines(header, rows, _out.width, short)
    return Text("\n").join([Text("\n".join(above), "table.header"), *map(Text, below)])


def _can_write(text: str) -> bool:
    return _writable(text) == text


def _writable(text: str) -> str:
    """With what stdout's encoding lacks, and what moves a terminal's cursor, escaped."""
    return text.translate(_CONTROLS).encode(_out.encoding, "backslashreplace").decode(_out.encoding)


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}

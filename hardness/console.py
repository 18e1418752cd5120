"""Output of a running stage: lines, tables, and progress bars on a terminal."""

import io
import math
import os
import re
import sys
import textwrap
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

# None: the width of the terminal, or COLUMNS.
_width = None if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit() else 160
_out = Console(highlight=False, soft_wrap=True, width=_width)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def silence() -> None:
    """Print nothing from now on: of several processes that do the same, only the first prints."""
    _out.quiet = _err.quiet = True


def escape_unencodable() -> None:
    """Make stdout escape characters that its encoding lacks, as stderr always does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print one line, without interpreting markup."""
    _out.print(text, markup=False, emoji=False)


def say_time_left(unit: str, seconds: float, num_left: int) -> None:
    """Print the time per epoch or network, and for the rest; a terminal has a progress bar instead."""
    if num_left and not _draws():
        say(f"{seconds:.1f} s per {unit}, about {duration(seconds * num_left)} left")


def duration(seconds: float) -> str:
    """40 s, 12 minutes, 3.5 hours, 20 days."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.{0 if seconds >= 10 * size else 1}f} {unit}"
    return f"{math.ceil(seconds)} s"


def remark(text: str) -> None:
    """Print one line to stderr."""
    _write_err(escape(text))


def warn(text: str) -> None:
    _write_err(f"[yellow]warning:[/] {escape(text)}")


def _write_err(markup: str) -> None:
    if _err.quiet:
        return
    # While progress bars are shown, only what goes through sys.stderr is put above them.
    with _err.capture() as captured:
        _err.print(markup, emoji=False)
    sys.stderr.write(captured.get())


def _draws() -> bool:
    """Is stdout a terminal that can redraw a line?"""
    return _out.is_terminal and not _out.is_dumb_terminal and not _out.quiet


def _screen() -> dict[str, Any]:
    """Options of rich's displays: stderr goes above the bars, unless it is redirected to a file."""
    return {"console": _out, "redirect_stderr": _err.is_terminal}


_BAR = (
    TextColumn("{task.description}", markup=False),
    # Takes the remaining width.
    BarColumn(bar_width=None),
    MofNCompleteColumn(),
    TimeRemainingColumn(elapsed_when_finished=True),
)


def progress(steps: Iterable[Any], total: int, label: str) -> Iterator[Any]:
    """Yield ``steps`` under a progress bar with the time left, if stdout is a terminal."""
    with Progress(*_BAR, **_screen(), transient=True, disable=not _draws()) as bars:
        yield from bars.track(steps, total=total, description=label)


class Epochs:
    """Shows the epochs of training, used as a context.

    On a terminal: a progress bar with the time left, below a table of the last epochs; other output scrolls
    above both. Elsewhere: one line per epoch, if ``lines``.

    total: number of epochs, None if not known; done: those that an interrupted run has finished.
    """

    def __init__(self, total: int | None, done: int = 0, lines: bool = True):
        self._says = lines and not _draws()
        self._last: list[dict[str, str]] = []
        # Estimate the time left from all epochs but the first, which warms up.
        self._bar = Progress(*_BAR, speed_estimate_period=math.inf)
        self._task = self._bar.add_task("", total=total, completed=done)
        self._live = Live(**_screen(), get_renderable=self._view) if _draws() else None

    def begin(self, name: str) -> None:
        """Start a network of that name; clear the table."""
        self._last = []
        self._bar.update(self._task, description=name)

    def add(self, numbers: dict[str, str]) -> None:
        """Add a finished epoch: name -> number, with ``epoch`` first."""
        # A new list, because a thread of rich may be drawing the old one.
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
        # A truncated number would be wrong: leave out whole columns from the right until the table fits.
        while True:
            view = _table(shown, ([numbers[name] for name in shown] for numbers in last))
            if len(shown) == 1 or _least_width(view) <= _out.width:
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
    """Shows the runs of a recipe, used as a context.

    On a terminal: a progress bar for all runs, and one for each that is running. Elsewhere: a line per run.
    """

    def __init__(self, total: int, done: int):
        self._bars = Progress(*_BAR, **_screen(), disable=not _draws())
        self._all = self._bars.add_task("runs", total=total, completed=done)
        self._tasks: dict[str, TaskID] = {}
        self._total, self._done = total, done

    def begin(self, name: str, total: int, done: int) -> None:
        """Start a run. total: its epochs, 0 if it does not train; done: those of them that are finished."""
        self._tasks[name] = self._bars.add_task(name, total=total or None, completed=done)

    def advance(self, name: str, done: int) -> None:
        self._bars.update(self._tasks[name], completed=done)

    def end(self, name: str, how: str) -> None:
        """End a run and print its outcome."""
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
    """A table of names and values; long values wrap."""
    view = Table.grid(padding=(0, 2, 0, 0))
    view.add_column(style="dim", no_wrap=True)
    view.add_column(overflow="fold")
    for name, what in rows:
        view.add_row(escape(name), escape(what))
    if title:
        # Never wrapped, so that a long path can be copied.
        _out.print(title, markup=False, emoji=False, style="bold", soft_wrap=True)
    _out.print(view, soft_wrap=False, width=min(_out.width, 100))


def sparkline(values: Sequence[float | None], width: int = 40) -> str:
    """One character per value, in eight levels from the minimum to the maximum; blank for None.

    More than ``width`` values are averaged in bins. In ASCII if stdout's encoding has no block characters.
    """
    levels = "▁▂▃▄▅▆▇█"
    if _writable(levels) != levels:
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
    """A table with text left-aligned and numbers right-aligned.

    If the terminal is too narrow, text wraps. If that is not enough, the terminal wraps the lines: a
    truncated number would be wrong.
    """
    if title:
        _out.print(title, markup=False, emoji=False, style="table.title", soft_wrap=True)
    view = _table(header, rows)
    if (least := _least_width(view)) > _out.width:
        view.width = least
    _out.print(view, soft_wrap=True)


def _table(header: Sequence[Any], rows: Iterable[Iterable[Any]]) -> Table:
    rows = [[_writable(str(cell)) for cell in row] for row in rows]
    columns = list(zip(map(_writable, map(str, header)), *rows, strict=True))
    view = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    is_wide = sum(2 + max(map(cell_len, column)) for column in columns) > _out.width
    for name, *cells in columns:
        if view.columns and all(map(_NUMBERS.fullmatch, cells)):
            # A header takes more lines rather than a wider column.
            least = max(map(cell_len, cells), default=0)
            longest = max(map(cell_len, name.split()), default=0)
            least = max(least, min(longest, _MIN_TEXT) if is_wide else cell_len(name))
            head = "\n".join(textwrap.wrap(name, max(least, 1)))
            view.add_column(Text(head), justify="right", no_wrap=True, min_width=least)
        else:
            least = min(max(map(cell_len, (name, *cells))), _MIN_TEXT)
            view.add_column(Text(name), overflow="fold", min_width=least)
    for row in rows:
        view.add_row(*map(Text, row))
    return view


def _least_width(view: Table) -> int:
    return sum(column.min_width for column in view.columns) + 2 * len(view.columns)


def _writable(text: str) -> str:
    """Escape control characters, and characters that stdout's encoding lacks."""
    return text.translate(_CONTROLS).encode(_out.encoding, "backslashreplace").decode(_out.encoding)


_NUMBERS = re.compile(r"(nan|inf|[-+\d.,e%±/\[\] ])*")
"""A cell of a column of numbers, perhaps with intervals."""
_MIN_TEXT = 10
"""Minimum width of a column of text, and of a header."""
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}

"""What the user sees while a stage works: lines, tables, and progress bars on a terminal."""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

# Of many processes that do the same the first speaks.
_is_silent = os.environ.get("WORLD_SIZE", "1") not in ("", "1") and os.environ.get("RANK", "0") != "0"
_out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160, quiet=_is_silent)
_err = Console(stderr=True, highlight=False, soft_wrap=True, quiet=_is_silent)


def say(text: str) -> None:
    """One line; nothing in it is markup."""
    _out.print(text, markup=False, emoji=False)


def say_time_left(unit: str, seconds: float, num_left: int) -> None:
    """What one took, and the rest will."""
    if num_left:
        minutes = seconds * num_left / 60
        say(f"{unit} takes {seconds:.1f} s; {num_left} more: {minutes:.1f} minutes")


def remark(text: str) -> None:
    """One line beside what is asked for, on stderr."""
    _err.print(text, markup=False, emoji=False)


def warn(text: str) -> None:
    _err.print(f"[yellow]warning:[/] {escape(text)}", emoji=False)


def progress(steps: Iterable[Any], total: int, label: str) -> Iterator[Any]:
    """Yield ``steps`` under a progress bar with the time left; silent where stdout is no terminal."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_out, transient=True, disable=not _out.is_terminal) as bars:
        yield from bars.track(steps, total=total, description=label)


def table(title: str, header: list[str], rows: Iterable[Iterable[Any]]) -> None:
    """A small table: text to the left, numbers as given to the right."""
    view = Table(title=escape(title), title_justify="left", box=None, padding=(0, 2, 0, 0))
    for index, name in enumerate(header):
        view.add_column(escape(name), justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        view.add_row(*(escape(str(cell)) for cell in row))
    _out.print(view)

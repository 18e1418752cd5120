"""A table as lines of text, as narrow as asked where possible: names are shortened, numbers never."""

import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

from rich.cells import cell_len

from hardness.shortening import Shortener

_GAP = "  "


class Name(str):
    """A class's or a run's name: shortened at its end."""

    __slots__ = ()


class Location(str):
    """A path or an example's key: shortened in its middle, after the names."""

    __slots__ = ()


_LEAST = {Name: 10, Location: 24}
"""Down to how many cells each is shortened."""


def lines(
    header: Sequence[Any], rows: Iterable[Iterable[Any]], width: int, short: Shortener
) -> tuple[list[str], list[str]]:
    """The lines of the header and those of the rows, at most ``width`` wide where that is possible.

    Long headers are wrapped before anything is shortened. What is neither a ``Name`` nor a ``Location`` stays
    whole, so lines may be wider. Shortened ones that differ look different where that is possible.
    """
    columns = list(zip(header, *rows, strict=True))
    widths = [max(short.width(str(cell)) for cell in column) for column in columns]
    room = width - len(_GAP) * (len(columns) - 1)
    for kinds in ((), (Name,), (Name, Location)):
        widths = _narrowed(widths, [_least(column, kinds, short) for column in columns], room)
    looks = _looks(columns, widths, short)
    # Text begins, and numbers end, below each other.
    pads = [_pad_right if _is_text(index, column) else _pad_left for index, column in enumerate(columns)]

    def line(cells: Iterable[str]) -> str:
        return _GAP.join(pad(*cell) for pad, *cell in zip(pads, cells, widths, strict=True)).rstrip()

    shown = [[short.write(looks.get(cell, cell)) for cell in map(str, column)] for column in columns]
    names, *rows = zip(*shown, strict=True)
    titles = [
        [name] if isinstance(cell, (Name, Location)) else textwrap.wrap(name, max(wide, 1))
        for cell, name, wide in zip(header, names, widths, strict=True)
    ]
    # The last line of each stands above the first row.
    above = [*zip_longest(*(reversed(title) for title in titles), fillvalue="")][::-1]
    return [line(cells) for cells in above], [line(cells) for cells in rows]


def _is_text(index: int, column: Sequence[Any]) -> bool:
    return index == 0 or any(isinstance(cell, (Name, Location)) for cell in column[1:])


def _pad_right(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _pad_left(text: str, width: int) -> str:
    return " " * (width - cell_len(text)) + text


def _least(column: Sequence[Any], kinds: tuple[type, ...], short: Shortener) -> int:
    """How narrow a column may become, with its header wrapped and cells of these kinds shortened."""
    header, *cells = column
    if isinstance(header, (Name, Location)):
        cells.append(header)
    else:
        cells += textwrap.wrap(header, 1, break_long_words=False)
    least = 0
    for cell in cells:
        width = short.width(str(cell))
        least = max(least, min(width, _LEAST[type(cell)]) if isinstance(cell, kinds) else width)
    return least


def _narrowed(widths: list[int], least: list[int], room: int) -> list[int]:
    """The widest columns become narrower until all fit, none narrower than its least."""
    widths = list(widths)
    for _ in range(sum(widths) - room):
        index = max(range(len(widths)), key=lambda i: widths[i] * (widths[i] > least[i]))
        widths[index] -= widths[index] > least[index]
    return widths


def _looks(columns: Sequence[Sequence[Any]], widths: list[int], short: Shortener) -> dict[str, str]:
    """Text -> how it is shown, the same everywhere in the table."""
    looks: dict[str, str] = {}
    for kind, shorten in ((Name, short.at_end), (Location, short.in_middle)):
        cells = [
            (cell, width)
            for column, width in zip(columns, widths, strict=True)
            for cell in column
            if isinstance(cell, kind)
        ]
        if tight := [width for cell, width in cells if short.width(cell) > width]:
            looks |= short.all((cell for cell, _ in cells), min(tight), shorten)
    return looks

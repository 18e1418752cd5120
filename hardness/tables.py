"""A table as lines of text within a given width: names are shortened if necessary, numbers never."""

import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

from rich.cells import cell_len

from hardness.shortening import Shortener

_GAP = "  "


class Name(str):
    """The name of a class or run: shortened at the end."""

    __slots__ = ()


class Location(str):
    """A path or an example's key: shortened in the middle, and only after names."""

    __slots__ = ()


_MIN_WIDTH = {Name: 10, Location: 24}
"""Minimum width, in terminal cells, to which each kind is shortened."""


def lines(
    header: Sequence[Any], rows: Iterable[Iterable[Any]], width: int, short: Shortener
) -> tuple[list[str], list[str]]:
    """The lines of the header and of the rows, at most ``width`` wide if possible.

    Long headers are wrapped before anything is shortened. Only a ``Name`` or ``Location`` is shortened, so
    lines may be wider. Different texts stay different after shortening, if possible.
    """
    columns = list(zip(header, *rows, strict=True))
    widths = [max(short.width(str(cell)) for cell in column) for column in columns]
    room = width - len(_GAP) * (len(columns) - 1)
    for kinds in ((), (Name,), (Name, Location)):
        widths = _narrowed(widths, [_min_width(column, kinds, short) for column in columns], room)
    forms = _shortened(columns, widths, short)
    # Text is aligned left, numbers right.
    pads = [_pad_right if _is_text(index, column) else _pad_left for index, column in enumerate(columns)]

    def line(cells: Iterable[str]) -> str:
        return _GAP.join(pad(*cell) for pad, *cell in zip(pads, cells, widths, strict=True)).rstrip()

    shown = [[short.write(forms.get(cell, cell)) for cell in map(str, column)] for column in columns]
    names, *rows = zip(*shown, strict=True)
    titles = [
        [name] if isinstance(cell, (Name, Location)) else textwrap.wrap(name, max(wide, 1))
        for cell, name, wide in zip(header, names, widths, strict=True)
    ]
    # Headers are aligned at the bottom.
    above = [*zip_longest(*(reversed(title) for title in titles), fillvalue="")][::-1]
    return [line(cells) for cells in above], [line(cells) for cells in rows]


def _is_text(index: int, column: Sequence[Any]) -> bool:
    return index == 0 or any(isinstance(cell, (Name, Location)) for cell in column[1:])


def _pad_right(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _pad_left(text: str, width: int) -> str:
    return " " * (width - cell_len(text)) + text


def _min_width(column: Sequence[Any], kinds: tuple[type, ...], short: Shortener) -> int:
    """Minimum width of a column, with its header wrapped and cells of these kinds shortened."""
    header, *cells = column
    if isinstance(header, (Name, Location)):
        cells.append(header)
    else:
        cells += textwrap.wrap(header, 1, break_long_words=False)
    minimum = 0
    for cell in cells:
        width = short.width(str(cell))
        minimum = max(minimum, min(width, _MIN_WIDTH[type(cell)]) if isinstance(cell, kinds) else width)
    return minimum


def _narrowed(widths: list[int], minimum: list[int], room: int) -> list[int]:
    """Shrink the widest columns until all fit, none below its minimum."""
    widths = list(widths)
    for _ in range(sum(widths) - room):
        index = max(range(len(widths)), key=lambda i: widths[i] * (widths[i] > minimum[i]))
        widths[index] -= widths[index] > minimum[index]
    return widths


def _shortened(columns: Sequence[Sequence[Any]], widths: list[int], short: Shortener) -> dict[str, str]:
    """Maps a text to its shortened form, which is the same everywhere in the table."""
    forms: dict[str, str] = {}
    for kind, shorten in ((Name, short.at_end), (Location, short.in_middle)):
        cells = [
            (cell, width)
            for column, width in zip(columns, widths, strict=True)
            for cell in column
            if isinstance(cell, kind)
        ]
        if tight := [width for cell, width in cells if short.width(cell) > width]:
            forms |= short.all((cell for cell, _ in cells), min(tight), shorten)
    return forms

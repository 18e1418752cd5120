"""Texts shortened to a width, such that different ones stay different.

Widths are in cells of a terminal: an East Asian character takes two of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate

from rich.cells import cell_len


@dataclass(frozen=True)
class Shortener:
    """How texts are written where they are shown, which decides how wide they are."""

    write: Callable[[str], str] = str
    """A text -> what is shown of it, for example with escaped characters, which are never cut in two."""
    ellipsis: str = "…"

    def width(self, text: str) -> int:
        return cell_len(self.write(text))

    def at_end(self, text: str, width: int) -> str:
        if self.width(text) <= width:
            return text
        return self._first(text, width - len(self.ellipsis)).rstrip() + self.ellipsis

    def in_middle(self, path: str, width: int) -> str:
        """The beginning and, where there is room, the whole file name."""
        if self.width(path) <= width:
            return path
        room = width - len(self.ellipsis)
        name = path[path.rfind("/") :]
        # A name that leaves no room for the beginning is no better than the end of the path.
        tail = self.width(name) if len(name) < len(path) and self.width(name) <= room * 3 // 4 else room // 2
        end = self._first(path[::-1], tail)[::-1]
        return self._first(path, room - self.width(end)).rstrip() + self.ellipsis + end

    def all(self, texts: Iterable[str], width: int, shorten: Callable[[str, int], str]) -> dict[str, str]:
        """Text -> the shortened one; those that would look the same show instead where they differ."""
        short = {text: shorten(text, width) for text in texts}
        for look in dict.fromkeys(short.values()):
            same = [text for text, its in short.items() if its == look]
            if len(same) > 1 and width > 2 * len(self.ellipsis) + 2:
                short |= self._where_they_differ(same, width, shorten)
        return short

    def _where_they_differ(
        self, texts: list[str], width: int, shorten: Callable[[str, int], str]
    ) -> dict[str, str]:
        """A beginning of what the texts have in common, then of each what follows."""
        common = texts[0]
        while not all(text.startswith(common) for text in texts):
            common = common[:-1]
        rests = self.all((text[len(common) :] for text in texts), width - max(width // 3, 2), shorten)
        head = self.at_end(common, width - max(map(self.width, rests.values())))
        return {text: head + rests[text[len(common) :]].removeprefix(self.ellipsis) for text in texts}

    def _first(self, text: str, width: int) -> str:
        """As many characters as fit."""
        widths = accumulate(map(self.width, text))
        return text[: sum(wide <= width for wide in widths)]

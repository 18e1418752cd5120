"""Shorten texts to a width so that different texts stay different.

Widths are in terminal cells: an East Asian character takes two.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate

from rich.cells import cell_len


@dataclass(frozen=True)
class Shortener:
    """Shortens texts, whose width depends on how they are written."""

    write: Callable[[str], str] = str
    """Maps a text to what is shown, for example with escaped characters, which are never split."""
    ellipsis: str = "…"

    def width(self, text: str) -> int:
        return cell_len(self.write(text))

    def at_end(self, text: str, width: int) -> str:
        if self.width(text) <= width:
            return text
        return self._first(text, width - len(self.ellipsis)).rstrip() + self.ellipsis

    def in_middle(self, path: str, width: int) -> str:
        """Keep the beginning and, if there is room, the complete file name."""
        if self.width(path) <= width:
            return path
        room = width - len(self.ellipsis)
        name = path[path.rfind("/") :]
        # If the name leaves too little room for the beginning, keep only its end.
        tail = self.width(name) if len(name) < len(path) and self.width(name) <= room * 3 // 4 else room // 2
        end = self._first(path[::-1], tail)[::-1]
        return self._first(path, room - self.width(end)).rstrip() + self.ellipsis + end

    def all(self, texts: Iterable[str], width: int, shorten: Callable[[str, int], str]) -> dict[str, str]:
        """Maps each text to its shortened form; texts that would look the same show where they differ."""
        short = {text: shorten(text, width) for text in texts}
        for form in dict.fromkeys(short.values()):
            same = [text for text, shortened in short.items() if shortened == form]
            if len(same) > 1 and width > 2 * len(self.ellipsis) + 2:
                short |= self._where_they_differ(same, width, shorten)
        return short

    def _where_they_differ(
        self, texts: list[str], width: int, shorten: Callable[[str, int], str]
    ) -> dict[str, str]:
        """A shortened common prefix, followed by the shortened rest of each text."""
        common = texts[0]
        while not all(text.startswith(common) for text in texts):
            common = common[:-1]
        rests = self.all((text[len(common) :] for text in texts), width - max(width // 3, 2), shorten)
        head = self.at_end(common, width - max(map(self.width, rests.values())))
        return {text: head + rests[text[len(common) :]].removeprefix(self.ellipsis) for text in texts}

    def _first(self, text: str, width: int) -> str:
        """The longest prefix that fits."""
        widths = accumulate(map(self.width, text))
        return text[: sum(wide <= width for wide in widths)]

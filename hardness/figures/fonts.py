"""Letters that DejaVu Sans lacks, such as Chinese ones, are drawn with an installed font that has them.

If no font has them, they are written as code points, so that names stay distinct.
"""

import contextlib
import functools
import logging
import unicodedata
from collections.abc import Iterator

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font

BASE = "DejaVu Sans"
"""The font of hardness.mplstyle, which comes with matplotlib."""
# These fonts draw every letter as a box.
_PLACEHOLDERS = ("lastresort", "last resort", "adobe blank", "adobeblank", "unicode bmp fallback")


def families(text: str) -> list[str]:
    """The font families to draw a text with: one more for each script that the previous ones lack."""
    chosen = [BASE]
    missing = frozenset(text) - _drawn_by(BASE, frozenset(text))
    # Not for plain Latin: searching all fonts takes a while.
    while missing:
        drawn = {family: _drawn_by(family, missing) for family in _installed()}
        # The font with the most of these letters; ties by name, so that the order on disk does not matter.
        best = max(drawn, key=lambda family: len(drawn[family]), default=None)
        if best is None or not drawn[best]:
            break
        chosen.append(best)
        missing -= drawn[best]
    return chosen


def drawable(text: str) -> str:
    """A text as matplotlib's current families can draw it: other letters as code points, tabs as spaces."""
    text = "".join(" " if letter.isspace() else letter for letter in text)
    drawn = set().union(*(_drawn_by(family, frozenset(text)) for family in mpl.rcParams["font.family"]))
    return "".join(letter if letter in drawn else _code_point(letter) for letter in text)


def _code_point(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"


@contextlib.contextmanager
def without_remarks() -> Iterator[None]:
    """Without the warnings that matplotlib logs for fonts without bold or normal weight."""
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@functools.cache
def _installed() -> list[str]:
    """The families that matplotlib can find, sorted, with fonts that are newer than its own list."""
    known = {entry.fname for entry in fontManager.ttflist}
    for path in sorted(set(findSystemFonts()) - known):
        try:
            fontManager.addfont(path)
        # Bitmap fonts, and files that are not fonts.
        except (OSError, RuntimeError, NotImplementedError, UnicodeDecodeError):
            continue
    names = {entry.name for entry in fontManager.ttflist}
    return sorted(name for name in names if not name.lower().startswith(_PLACEHOLDERS))


@functools.lru_cache(4096)
def _drawn_by(family: str, letters: frozenset[str]) -> frozenset[str]:
    """Those of the letters that the family draws."""
    try:
        font = _font(family)
        return frozenset(letter for letter in letters if _has(font, letter))
    # The font was removed, or is broken.
    except (OSError, RuntimeError, ValueError):
        return frozenset()


def _font(family: str) -> FT2Font:
    """The font itself, without matplotlib's fallbacks: one of them draws every letter as a box."""
    with without_remarks():
        path = fontManager.findfont(FontProperties(family=[family]), fallback_to_default=False)
    # matplotlib 3.11 knows every font of a collection, older versions only the first.
    index = getattr(path, "face_index", 0)
    font = FT2Font(path, face_index=index) if index else FT2Font(path)
    font.set_size(12, 72)
    return font


def _has(font: FT2Font, letter: str) -> bool:
    """Can the font draw the letter? Bitmap glyphs cannot be drawn."""
    glyph = font.get_char_index(ord(letter))
    if not glyph or not font.scalable:
        return False
    font.load_glyph(glyph)
    is_invisible = unicodedata.category(letter) in ("Zs", "Cf", "Mn")
    return is_invisible or len(font.get_path()[0]) > 0

"""Names in any script: drawn with a font that has the letters, or written as code points."""

import re
import shutil

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.font_manager import FontEntry, findfont, fontManager
from matplotlib.text import Text

from hardness.figures import fonts, learned_by_class, style

# None of the fonts that come with matplotlib has it.
CAT = "猫"


@pytest.fixture
def installed(monkeypatch):
    """``installed(family, ...)``: as if only these fonts were installed."""

    def only(*families: str) -> None:
        monkeypatch.setattr(fonts, "_installed", lambda: sorted(families))

    fonts._drawn_by.cache_clear()
    yield only
    fonts._drawn_by.cache_clear()


def table(names: list[str]) -> pd.DataFrame:
    first = {"0": pd.Series(pd.array(np.arange(12) % 4 + 1, dtype="Int32"))}
    return learned_by_class.prepare(first, {"0": np.arange(12) % len(names)}, names, 4)


def drawn(names: list[str], title: str, path) -> dict[str, Text]:
    """What the saved figure's legend and title say; warnings of glyphs that are missing are errors."""
    seen: dict[str, Text] = {}

    def draw(*args):
        figure = learned_by_class.draw(*args)
        seen.update((text.get_text(), text) for text in figure.findobj(Text))
        return figure

    # Glyphs are missing already when the layout is computed: no file is needed.
    style.save(draw, table(names), title, path, formats=())
    return seen


def test_plain_names_need_no_look_at_the_fonts(monkeypatch):
    monkeypatch.setattr(fonts, "_installed", lambda: pytest.fail("every font was looked at"))
    assert fonts.families("great white shark, Żółw, кошка, قطة") == [fonts.BASE]


def test_a_letter_is_drawn_with_a_font_that_has_it(installed, tmp_path):
    installed("DejaVu Sans", "DejaVu Serif", "STIXGeneral")
    missing = next(
        chr(code)
        for code in fonts._font("STIXGeneral").get_charmap()
        if chr(code).isalpha() and fonts.families(chr(code))[1:] == ["STIXGeneral"]
    )
    shown = drawn([f"a {missing}", "b"], missing, tmp_path / "a")
    text = shown[f"a {missing}"]
    assert text.get_fontfamily() == [fonts.BASE, "STIXGeneral"]


def test_without_a_font_names_are_code_points_and_differ(installed, tmp_path):
    installed("DejaVu Sans")
    names = ["猫科动物中的大型掠食者狮子", "猫科动物中的大型掠食者老虎", CAT, "\U0001f984"]
    shown = drawn(names, f"{CAT} $x_1", tmp_path / "a")
    shown = [text.replace("\n", "") for text in shown]
    assert {r"\u732b", r"\U0001f984", *(name.encode("unicode-escape").decode() for name in names)} <= set(
        shown
    )
    assert r"\u732b $x_1" in next(text for text in shown if "seed" in text)


def test_whatever_is_installed_no_letter_is_a_box(tmp_path):
    names = [CAT, "ねこ", "한국어", "बिल्ली", "\U0001f984", "\ue000\x00"]
    shown = drawn(names, "图片", tmp_path / "a")
    assert len(shown) > len(names)
    assert not any("□" in text for text in shown)


def test_fonts_that_are_gone_broken_or_placeholders_are_passed_over(tmp_path, monkeypatch):
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    last_resort = findfont("DejaVu Sans").replace("DejaVuSans.ttf", "LastResortHE-Regular.ttf")
    entries = [("Gone", "gone.ttf"), ("Broken", str(broken)), ("Last Resort High-Efficiency", last_resort)]
    kept = [entry for entry in fontManager.ttflist if entry.name == "DejaVu Sans"]
    monkeypatch.setattr(
        fontManager, "ttflist", [*kept, *(FontEntry(path, name=name) for name, path in entries)]
    )
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: [str(broken), str(tmp_path / "away.ttf")])
    fonts._installed.cache_clear()
    fonts._drawn_by.cache_clear()
    try:
        assert fonts.families(CAT) == [fonts.BASE]
    finally:
        fonts._installed.cache_clear()
        fonts._drawn_by.cache_clear()


def test_a_font_installed_after_matplotlibs_list_is_found(tmp_path, monkeypatch):
    path = shutil.copy(findfont("STIXGeneral"), tmp_path / "new.ttf")
    others = [entry for entry in fontManager.ttflist if entry.name != "STIXGeneral"]
    monkeypatch.setattr(fontManager, "ttflist", others)
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: [path])
    fonts._installed.cache_clear()
    try:
        assert "STIXGeneral" in fonts._installed()
    finally:
        fonts._installed.cache_clear()


def test_in_a_name_dollars_are_no_mathematics_and_a_first_underscore_hides_nothing():
    names = ["$x_1$ <b> & " * 9, "_zero\n"]
    figure = learned_by_class.draw(table(names), "$x_1")
    figure.draw_without_rendering()
    shown = {text.get_text(): text for text in figure.legends[0].get_texts()}
    assert {"_zero", "\n".join(["$x_1$ <b> & $x_1$ <b> &"] * 4 + ["$x_1$ <b> &"])} <= set(shown)
    assert not any(text.get_parse_math() for text in shown.values())


def test_wide_letters_are_wrapped_by_their_width():
    with mpl.rc_context({"font.family": [fonts.BASE]}):
        assert style.wrapped("aa bb cc", 5) == ["aa bb", "cc"]
        assert all(len(line) <= 12 for line in style.wrapped(CAT * 9, 12))
        assert re.fullmatch(r"(\\u732b){9}", "".join(style.wrapped(CAT * 9, 12)))

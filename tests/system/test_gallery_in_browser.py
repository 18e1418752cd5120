"""The gallery of examples in Chromium."""

import functools

import numpy as np
import pandas as pd
import pytest

from hardness.page.gallery import LISTS, gallery
from hardness.runs.reading import finished_info
from tests.contrast import contrast

pytestmark = pytest.mark.slow
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def found(tracked):
    """Digits, with HTML in the name of class 3."""
    info = finished_info(tracked)
    info["data"]["class_names"][3] = SCRIPT
    return gallery({tracked: info})


@pytest.fixture(scope="module")
def path(found, gallery_page, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(gallery_page(found, found))
    return path


@pytest.fixture
def open_page(visit, path):
    return functools.partial(visit, path)


@pytest.fixture
def page(open_page):
    return open_page()


def ids(gallery):
    """Example ids of the visible cards, in order."""
    cards = gallery.locator(".gallery-card:visible")
    return [int(text) for text in cards.locator("dl div:last-child dd").all_text_contents()]


def count(gallery):
    return gallery.get_by_role("status").text_content().removesuffix(" examples")


def test_cards_start_class_by_class(page, found):
    gallery = page.locator("#gallery-1")
    cards = [card.example_id for group in found.groups for card in group.cards]
    assert ids(gallery) == cards
    assert count(gallery) == f"{len(cards)} of {len(cards)}"
    assert gallery.get_by_role("heading", level=4).count() == 10
    gallery.get_by_role("button", name="Easiest first").click()
    assert ids(gallery) == [card.example_id for group in found.groups for card in reversed(group.cards)]


def test_cards_are_sorted_by_any_score(page, found, tracked):
    gallery = page.locator("#gallery-1")
    scores = pd.read_parquet(tracked / "scores.parquet")
    scores = scores[scores["example_id"].isin(ids(gallery))]
    button = gallery.get_by_role("button", name="Easiest first")
    for score in found.scores:
        gallery.get_by_label("Sort by").select_option(label=score.name)
        hardness = score.sign * scores[score.name].to_numpy(float, na_value=np.inf)
        easier_first = scores["example_id"].to_numpy()[np.lexsort((scores["mean_loss"], hardness))].tolist()
        assert ids(gallery) == easier_first[::-1]
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        assert ids(gallery) == easier_first
        value = scores.set_index("example_id")[score.name][easier_first[0]]
        assert gallery.locator(".gallery-score:visible").first.text_content() == f"{score.name}: {value:.3g}"
        assert score.summary in gallery.locator(".gallery-about").text_content()
        button.click()
    gallery.get_by_label("Sort by").select_option(label="class")
    assert ids(gallery) == [card.example_id for group in found.groups for card in group.cards]


def test_cards_are_filtered_by_class_and_by_list(page, found):
    one, other = page.locator("#gallery-1"), page.locator("#gallery-2")
    everything = ids(other)
    threes = next(group for group in found.groups if group.label == 3).cards
    one.get_by_label("Given label").select_option(label=SCRIPT)
    assert ids(one) == [card.example_id for card in threes]
    assert count(one) == f"{len(threes)} of {found.numbers['cards']}"
    assert one.get_by_role("heading", level=4).count() == 1
    for number, name in enumerate(LISTS):
        one.get_by_label("List", exact=True).select_option(label=name)
        expected = [card.example_id for card in threes if number in card.lists]
        assert ids(one) == expected
        assert count(one) == f"{len(expected)} of {found.numbers['cards']}"
    one.get_by_label("Given label").select_option(label="all")
    cards = [card for group in found.groups for card in group.cards]
    assert ids(one) == [card.example_id for card in cards if LISTS.index("likely mislabeled") in card.lists]
    assert ids(other) == everything


def test_the_controls_work_with_the_keyboard(page):
    gallery = page.locator("#gallery-1")
    gallery.get_by_label("Given label").focus()
    for name in ("List", "Sort by"):
        page.keyboard.press("Tab")
        assert gallery.get_by_label(name, exact=True).evaluate(
            "element => element === document.activeElement"
        )
    page.keyboard.press("a")  # the first score that begins with it
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert gallery.get_by_role("button").get_attribute("aria-pressed") == "true"
    assert gallery.locator(".gallery-score:visible").first.text_content().startswith("aum: ")


def test_names_stay_text(page):
    assert page.locator("script").count() == 1
    assert page.get_by_role("heading", level=4, name=f"given label {SCRIPT}").count() == 2


def test_without_script_all_is_shown_and_no_control(open_page, found):
    page = open_page(java_script_enabled=False)
    assert len(ids(page.locator("#gallery-1"))) == found.numbers["cards"]
    assert page.get_by_role("combobox").count() == 0


def test_print_has_the_cards_and_no_controls(page, found):
    page.emulate_media(media="print")
    assert len(ids(page.locator("#gallery-1"))) == found.numbers["cards"]
    assert page.get_by_role("combobox").count() == 0


def test_nothing_is_wider_than_a_narrow_window(open_page):
    page = open_page(viewport={"width": 390, "height": 800})
    page.locator("#gallery-1").get_by_label("Sort by").select_option(label="first_learned_epoch")
    widest = "Math.max(...[...document.querySelectorAll('body *')].map(e => e.getBoundingClientRect().right))"
    assert page.evaluate(widest) <= 390
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(open_page, scheme):
    page = open_page(color_scheme=scheme)
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
    for where in (
        "dd",
        "dt",
        "h5",
        ".gallery-tags span",
        ".gallery-note",
        "select",
        "button",
        ".is-wrong dd",
    ):
        assert contrast(page.locator(where).first) >= 4.5, where

"""A report in Chromium."""

import itertools
import json
import shutil

import pytest

from hardness.stages.report import Report, report
from hardness.stages.track import Track, track
from tests.contrast import contrast

pytestmark = pytest.mark.slow
SCRIPT = "<script>alert(1)</script>"
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def path(tracked, retrained, memorized, tmp_path_factory):
    """Two track runs with different settings, one with HTML in the names of a class and of its folder."""
    folder = tmp_path_factory.mktemp("nasty")
    nasty = shutil.copytree(tracked, folder / "<b>nasty & co")
    info = json.loads((nasty / "run.json").read_text())
    info["data"]["class_names"][3] = SCRIPT
    (nasty / "run.json").write_text(json.dumps(info))
    noisy = track(Track(epochs=2, noise=0.3, coherence_every=1, coherence_sample=20, out=folder / "noisy"))
    runs = (nasty, noisy, retrained, memorized)
    return report(Report(runs=runs, out=folder / "report", title=SCRIPT)) / "index.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_everything_is_visible_and_legible(visit, path, width, scheme):
    page = visit(path, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for where in (
        "h1",
        "h2",
        "h3",
        ".headline",
        "figcaption",
        "nav a",
        ".muted",
        "summary",
        "pre",
        ".runs td",
    ):
        assert contrast(page.locator(where).first) >= 4.5, where
    figures = page.locator("figure img")
    assert figures.count() == len(list((path.parent / "figures").glob("*.png")))
    for image in figures.all():
        shown, full = image.evaluate("e => [e.getBoundingClientRect().width, +e.getAttribute('width')]")
        assert image.evaluate("e => e.naturalWidth") >= full
        # At full size letters of 8 points have 10.7 pixels; at 0.7 of it at least 7.5.
        assert shown >= 0.7 * full > 280
        assert image.get_attribute("alt")
        assert image.evaluate("e => e.closest('.frame').getBoundingClientRect().right") <= width


def test_names_stay_text(visit, path):
    page = visit(path)
    assert page.locator("h1").text_content() == page.title() == SCRIPT
    assert page.get_by_role("heading", name=f"given label {SCRIPT}").count() == 1
    assert page.get_by_role("rowheader", name="<b>nasty & co").count() == 1
    assert page.locator("b", has_text="nasty").count() == 0


def test_headings_are_nested_and_links_have_targets(visit, path):
    page = visit(path)
    headings = page.locator("h1, h2, h3, h4, h5").evaluate_all("all => all.map(e => e.tagName)")
    levels = [int(name[1]) for name in headings]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    targets = page.locator("nav a, .glance a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert len(targets) > 8
    assert all(page.locator(target).count() == 1 for target in targets)
    assert page.locator("th:not([scope])").count() == 0
    ids = page.locator("[id]").evaluate_all("all => all.map(e => e.id)")
    assert len(set(ids)) == len(ids)


def test_links_to_files_work(visit, path):
    page = visit(path)
    links = page.locator("figcaption a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert len(links) == len(list((path.parent / "figures").iterdir()))
    assert all((path.parent / link).is_file() for link in links)


def test_two_galleries_are_independent(visit, path):
    page = visit(path)
    one, other = page.locator("#gallery-1"), page.locator("#gallery-2")
    before = other.locator(".gallery-card:visible").count()
    one.get_by_label("Sort by").select_option(label="aum")
    one.get_by_label("List", exact=True).select_option(label="hardest")
    assert (
        one.get_by_role("status")
        .text_content()
        .endswith(f" of {one.locator('.gallery-card').count()} examples")
    )
    assert other.locator(".gallery-card:visible").count() == before
    # Under label noise some clean labels are others.
    assert other.locator(".is-marked").count() > 0


def test_print_shows_closed_details_and_no_controls(visit, path):
    page = visit(path)
    estimates = page.locator("details table").first
    assert not estimates.is_visible()
    page.emulate_media(media="print")
    assert estimates.is_visible()
    assert not page.locator("nav").is_visible()
    assert page.get_by_role("combobox").count() == 0

"""The folder of a report: figures, numbers, words."""

import json
import re
import shlex
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import tyro

from hardness.figures import style
from hardness.settings.memorize import Memorize
from hardness.settings.retrain import Retrain
from hardness.settings.track import Track
from hardness.stages.report import Report, report
from hardness.stages.split import Split, split
from tests.conftest import refused
from tests.made_runs import retrained_run, tracked_run
from tests.words import Words, is_told, leaves, numbers_in


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text, self.links = [], "", []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag == "img":
            assert dict(attrs)["alt"]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    return tracked_run(tmp_path_factory.mktemp("tracked") / "tracked", lr=0.005)


@pytest.fixture(scope="module")
def retrained(tracked, tmp_path_factory):
    out = tmp_path_factory.mktemp("retrained") / "retrained"
    return retrained_run(out, split(Split(run=(tracked,))), seeds=2, epochs=3, lr=0.1)


@pytest.fixture(scope="module")
def reported(tracked, retrained, memorized, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "out"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("hardness.figures.style.DPI", "hardness.page.render.DPI"):
            patch.setattr(name, 50)
        patch.setattr("hardness.findings.agreement.RESAMPLES", 3)
        title = "<script>alert(1)</script>"
        return report(Report(runs=(tracked, retrained, memorized), out=out, title=title))


NAMES = {
    *("subset-bars", "transfer", "subset-curves", "equal-pristine", "noise-curves", "tracking-curves"),
    *("first-learned", "learned-by-class", "data-map", "forgetting", "agreement"),
}


def test_every_figure_is_there_and_every_number_in_the_summary(reported, tracked):
    for suffix in ("png", "csv"):
        assert {path.name.rsplit("-", 1)[0] for path in (reported / "figures").glob(f"*.{suffix}")} == NAMES
    summary = json.loads((reported / "summary.json").read_text())
    sections = {section["title"]: section for section in summary["sections"]}
    assert {figure.rsplit("-", 1)[0] for s in summary["sections"] for figure in s["figures"]} == NAMES
    first = pd.read_parquet(tracked / "scores.parquet")["first_learned_epoch"].fillna(0).to_numpy()
    learned = sections["When are examples first learned?"]["estimates"]
    assert learned["learned in epoch 1"]["mean"] == pytest.approx((first == 1).mean())
    assert learned["never learned"]["mean"] == pytest.approx((first == 0).mean())
    assert (first == 0).any()
    within = sections["Do easy examples generalize better within their own set?"]["estimates"][
        "within-subset"
    ]
    assert within["low"] is None
    assert within["num_seeds"] == 1


def test_every_number_in_the_words_of_the_page_is_in_the_summary(reported):
    known = leaves(json.loads((reported / "summary.json").read_text()))
    page = Words()
    page.feed((reported / "index.html").read_text())
    shown = numbers_in(" ".join(page.text))
    assert len(shown) > 100
    assert sorted({each for each in shown if not is_told(each, known)}) == []
    # A number that was not measured would be found.
    assert not is_told("0.98765", known)
    sentence = json.loads((reported / "summary.json").read_text())["sections"][0]["verdicts"][0]
    assert [each for each in numbers_in(sentence.replace("0.", "7.")) if not is_told(each, known)]


def test_the_summary_in_markdown_has_the_same_numbers(reported):
    text = (reported / "summary.md").read_text()
    summary = json.loads((reported / "summary.json").read_text())
    for section in summary["sections"]:
        assert f"## {section['title']}" in text
        for name, estimate in section["estimates"].items():
            assert f"{estimate['mean']:.3f}" in text
            assert name.split(">")[-1] in text
    # Only commands, which are code, are not escaped.
    assert "<script>" not in re.sub(r"(?m)^    .*$", "", text)
    shown = re.findall(r"\]\((figures/[\w.-]+)\)", text)
    assert shown
    assert all((reported / name).is_file() for name in shown)


def test_the_commands_reproduce_the_runs(reported, tracked, retrained):
    commands = json.loads((reported / "summary.json").read_text())["commands"]
    assert [shlex.split(command)[1] for command in commands] == [
        *("track", "split", "retrain", "memorize", "report")
    ]
    settings = {"track": Track, "split": Split, "retrain": Retrain, "memorize": Memorize, "report": Report}
    for command in commands:
        _, stage, *words = shlex.split(command)
        config = tyro.cli(settings[stage], args=words, config=(tyro.conf.FlagCreatePairsOff,))
        if stage == "track":
            assert config == Track(epochs=6, lr=0.005, out=tracked)
        if stage == "retrain":
            assert (config.seeds, config.epochs, config.lr, config.out) == (2, 3, 0.1, retrained)


def test_the_page_needs_no_network_and_escapes_every_name(reported):
    page = Page()
    text = (reported / "index.html").read_text()
    page.feed(text)
    assert page.tags.count("script") == 1  # of the gallery
    assert "<script>alert(1)</script>" in page.text
    assert len(re.findall(r'class="frame"[^>]*>\s*<img src="data:image/png;base64,', text)) == len(NAMES)
    others = {link for link in page.links if not link.startswith(("data:image/", "#"))} - {"data:,"}
    assert {(reported / link).is_file() for link in others} == {True}
    assert not any("http" in link for link in others)
    for words in ("Within-subset", "Own-subset advantage", "one seed: no interval", "Noise 0.5", "Noise 1"):
        assert words in page.text


def test_the_numbers_in_the_csv_are_those_of_the_curves(reported, retrained):
    curves = pd.read_parquet(retrained / "curves.parquet").query("epoch == 3")
    expected = curves.groupby(["trained_on", "measured_on"])["top1"].mean()
    drawn = pd.read_csv(reported / "figures/transfer-1.csv").set_index(["trained_on", "measured_on"])["mean"]
    assert np.allclose(drawn, expected.reindex(drawn.index), atol=1e-5)


def test_a_report_replaces_itself_but_no_other_files(reported, tracked, memorized, tmp_path):
    (reported / "README.md").write_text("mine")
    report(Report(runs=(memorized,), out=reported, formats=("svg",)))
    assert (reported / "README.md").read_text() == "mine"
    left = {path.name for path in (reported / "figures").iterdir()}
    assert left == {
        f"{name}-1.{suffix}"
        for name in ("equal-pristine", "noise-curves")
        for suffix in ("png", "svg", "csv")
    }
    # The page links the files that exist, and no others.
    page = Page()
    page.feed((reported / "index.html").read_text())
    assert {link for link in page.links if link.startswith("figures/")} == {
        f"figures/{name}" for name in left
    }
    (tmp_path / "index.html").write_text("my home page")
    with refused("path-occupied", path=str(tmp_path)):
        report(Report(runs=(tracked,), out=tmp_path))


def test_a_report_that_was_killed_is_made_by_the_same_command(memorized, tmp_path, monkeypatch):
    config = Report(runs=(memorized,), out=tmp_path / "out")

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(style, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        report(config)
    assert not (tmp_path / "out/index.html").exists()
    # Not rejected as a folder with other files.
    with pytest.raises(KeyboardInterrupt):
        report(config)

"""The later stages, each on the run folders of the one before."""

import json
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import torch

from hardness import datasets, models
from hardness.config import Memorize, Report, Retrain, Score, Split, Track
from hardness.errors import UserError
from hardness.stages import grid
from hardness.stages.memorize import memorize
from hardness.stages.report import report
from hardness.stages.retrain import retrain
from hardness.stages.run_folder import read_info, read_log
from hardness.stages.score import score
from hardness.stages.split import split
from hardness.stages.track import track
from hardness.subsets import SUBSETS

COLUMNS = [
    *("trained_on", "optimizer", "noise", "seed", "epoch"),
    *("measured_on", "loss", "top1", "top5", "num_examples"),
]


@pytest.fixture(scope="module")
def split_file(tracked, tmp_path_factory):
    return split(Split(run=(shutil.copytree(tracked, tmp_path_factory.mktemp("split") / "run"),)))


@pytest.fixture(scope="module")
def retrained(split_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("retrain") / "run"
    return retrain(Retrain(split=split_file, seeds=2, epochs=3, lr=0.1, out=out))


@pytest.fixture(scope="module")
def memorized(tmp_path_factory):
    out = tmp_path_factory.mktemp("memorize") / "run"
    return memorize(Memorize(noise=(0.5, 1.0), optimizers=("sgd", "m3", "rm3"), seeds=2, epochs=3, out=out))


def test_every_subset_is_trained_and_measured_on_every_test_fold(retrained, split_file):
    curves = pd.read_parquet(retrained / "curves.parquet")
    assert list(curves.columns) == COLUMNS
    measured = {*SUBSETS, "validation", "train"}
    assert len(curves) == len(SUBSETS) * 2 * 4 * len(measured)
    assert set(curves["trained_on"]) == set(SUBSETS)
    assert set(curves["measured_on"]) == measured
    assert sorted(curves["epoch"].unique()) == [0, 1, 2, 3]
    sizes = curves.groupby("measured_on")["num_examples"].unique().map(list).to_dict()
    assert sizes == {name: [48] for name in SUBSETS} | {"train": [239], "validation": [360]}
    info = read_info(retrained)
    assert info["split"]["quantile"] == 0.2
    assert info["tracking_seed"] == "0"
    assert info["config"]["model"] == "mlp"  # as tracked
    assert info["config"]["batch_size"] == 64


def test_subsets_begin_with_the_same_weights_and_seeds_do_not(retrained):
    start = pd.read_parquet(retrained / "curves.parquet").query("epoch == 0 and measured_on == 'validation'")
    losses = start.groupby("seed")["loss"].unique()
    assert [len(values) for values in losses] == [1, 1]
    assert losses[0][0] != losses[1][0]


def test_memorization_measures_pristine_corrupt_and_clean(memorized):
    curves = pd.read_parquet(memorized / "curves.parquet")
    assert list(curves.columns) == COLUMNS
    assert set(curves["trained_on"]) == {"all"}
    at_half = curves[(curves["noise"] == 0.5) & (curves["epoch"] == 0)]
    assert set(at_half["measured_on"]) == {"pristine", "corrupt", "corrupt-clean", "train", "validation"}
    sizes = at_half.groupby("measured_on")["num_examples"].first()
    assert sizes["pristine"] + sizes["corrupt"] == sizes["train"] == 1437
    assert sizes["corrupt"] / 1437 == pytest.approx(read_info(memorized)["noise_rates"]["0.5"])
    # The same first weights and the same wrong labels for every optimizer.
    assert at_half.groupby(["seed", "measured_on"])["loss"].nunique().eq(1).all()


def test_measured_accuracy_is_that_of_the_given_labels(memorized):
    data = datasets.load(Memorize(), model="mlp")
    given = datasets.labels.noisy_labels(data.train.clean_labels, 10, 0.5, 0)
    from hardness import seeding

    model = models.build("mlp", data, seed=seeding.derive(1, "init"))
    right = (model(data.train.images[range(len(data.train))]).argmax(1) == given).double()
    corrupt = given != data.train.clean_labels
    curves = pd.read_parquet(memorized / "curves.parquet").query("noise == 0.5 and seed == 1 and epoch == 0")
    top1 = curves.groupby("measured_on")["top1"].first()
    assert top1["corrupt"] == pytest.approx(right[corrupt].mean().item())
    assert top1["pristine"] == pytest.approx(right[~corrupt].mean().item())
    assert torch.equal(data.train.given_labels, data.train.clean_labels)


def test_finished_members_are_not_trained_again(here, monkeypatch, memorized):
    config = {"noise": (0.5, 1.0), "optimizers": ("sgd", "m3", "rm3"), "seeds": 2, "epochs": 3}
    build, built = grid.models.build, []

    def stop_at_the_third(*args, **kwargs):
        if len(built) == 2:
            raise KeyboardInterrupt
        built.append(kwargs["seed"])
        return build(*args, **kwargs)

    monkeypatch.setattr(grid.models, "build", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        memorize(Memorize(**config, out=here / "cut"))
    assert len(list((here / "cut/members").iterdir())) == 2
    monkeypatch.setattr(grid.models, "build", lambda *a, **k: built.append(k["seed"]) or build(*a, **k))
    memorize(Memorize(**config, out=here / "cut", resume=True))
    assert len(built) == 12
    pd.testing.assert_frame_equal(
        pd.read_parquet(here / "cut/curves.parquet"), pd.read_parquet(memorized / "curves.parquet")
    )
    assert len(read_log(here / "cut")) == 12 * 3
    assert not (here / "cut/members").exists()


def test_several_controls_are_trained_on_told_and_drawn(split_file, here, capsys):
    run = shutil.copytree(split_file.parents[1], here / "tracked")
    path = split(Split(run=(run,), controls=2))
    one, two = (
        retrain(Retrain(split=file, seeds=1, epochs=1, out=here / file.stem)) for file in (split_file, path)
    )
    curves = pd.read_parquet(two / "curves.parquet")
    more = {"easy-control-2", "hard-control-2"}
    assert set(curves["trained_on"]) == {*SUBSETS, *more}
    assert set(curves["measured_on"]) == {*SUBSETS, "validation", "train"}
    pd.testing.assert_frame_equal(
        curves[~curves["trained_on"].isin(more)].reset_index(drop=True),
        pd.read_parquet(one / "curves.parquet"),
    )
    assert "with 2 controls it cannot be below 0.333" in capsys.readouterr().out
    sections = {}
    for runs, out in (((one,), here / "a"), ((two,), here / "b"), ((one, two), here / "c")):
        report(Report(runs=runs, out=out))
        sections[out.name] = json.loads((out / "summary.json").read_text())["sections"]
    assert [len(found) for found in sections.values()] == [1, 1, 2]
    assert sections["a"][0]["figures"] == ["transfer-1", "subset-curves-1"]
    assert sections["b"][0]["figures"] == ["transfer-1", "subset-curves-1", "controls-1"]
    assert "2 controls each" in sections["b"][0]["settings"]
    assert "easy among its controls, tracking seed 0: p-value" in sections["b"][0]["estimates"]
    assert not any("among" in name for name in sections["a"][0]["estimates"])
    # Of a version that knew one control only, in one group with those that say so.
    info = json.loads((one / "run.json").read_text())
    del info["split"]["controls"], info["split"]["drop_twins"]
    older = shutil.copytree(one, here / "older")
    (older / "run.json").write_text(json.dumps(info | {"tracking_seed": "1"}))
    out = report(Report(runs=(one, older), out=here / "d"))
    (section,) = json.loads((out / "summary.json").read_text())["sections"]
    assert section["estimates"]["within-subset"]["num_seeds"] == 2


def test_a_split_of_other_data_is_refused(split_file, image_folder):
    with pytest.raises(UserError, match="as tracked"):
        retrain(Retrain(split=split_file, data=f"imagefolder:{image_folder}", out=image_folder.parent / "r"))
    assert not (image_folder.parent / "r").exists()


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
def reported(tracked, retrained, memorized, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "out"
    return report(Report(runs=(tracked, retrained, memorized), out=out, title="<script>alert(1)</script>"))


def test_the_report_has_every_figure_three_times_and_its_numbers(reported, tracked):
    names = {"first-learned", "agreement", "transfer", "subset-curves", "equal-pristine", "noise-curves"}
    for suffix in ("png", "svg", "csv"):
        assert {path.name.rsplit("-", 1)[0] for path in (reported / "figures").glob(f"*.{suffix}")} == names
    summary = json.loads((reported / "summary.json").read_text())
    assert len(summary["sections"]) == 4
    assert {figure.rsplit("-", 1)[0] for s in summary["sections"] for figure in s["figures"]} == names
    first = pd.read_parquet(tracked / "scores.parquet")["first_learned_epoch"].fillna(0).to_numpy()
    learned = summary["sections"][0]["estimates"]
    assert learned["learned in epoch 1"]["mean"] == pytest.approx((first == 1).mean())
    assert learned["never learned"]["mean"] == pytest.approx((first == 0).mean())
    assert (first == 0).any()
    within = summary["sections"][2]["estimates"]["within-subset"]
    assert within["low"] is None
    assert within["num_seeds"] == 1


def test_the_page_needs_no_network_and_escapes_every_name(reported):
    page = Page()
    page.feed((reported / "index.html").read_text())
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text
    assert page.links
    assert all(link.startswith("data:image/svg+xml;base64,") for link in page.links)
    assert "Within-subset" in page.text
    assert "one seed: no interval" in page.text
    for word in ("Noise 0.5", "Noise 1: training accuracy", "m3 against sgd", "Own-subset advantage"):
        assert word in page.text


def test_the_numbers_in_the_csv_are_those_of_the_curves(reported, retrained):
    curves = pd.read_parquet(retrained / "curves.parquet").query("epoch == 3")
    expected = curves.groupby(["trained_on", "measured_on"])["top1"].mean()
    drawn = pd.read_csv(reported / "figures/transfer-1.csv").set_index(["trained_on", "measured_on"])["mean"]
    assert np.allclose(drawn, expected.reindex(drawn.index), atol=1e-5)


def test_a_report_is_drawn_anew_over_itself_but_over_nothing_else(reported, tracked, tmp_path):
    (reported / "README.md").write_text("mine")
    report(Report(runs=(tracked,), out=reported))
    assert (reported / "README.md").read_text() == "mine"
    assert len(list((reported / "figures").iterdir())) == 6
    (tmp_path / "index.html").write_text("my home page")
    with pytest.raises(UserError, match="with an older report, for --out"):
        report(Report(runs=(tracked,), out=tmp_path))


def test_a_grid_that_was_trained_is_not_trained_again(here, monkeypatch, split_file):
    from hardness.stages import retrain as stage

    config = {"split": split_file, "seeds": 1, "epochs": 1, "out": here / "r"}
    monkeypatch.setattr(stage, "transfer_matrix", lambda curves: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        retrain(Retrain(**config))
    monkeypatch.undo()
    monkeypatch.setattr(grid.models, "build", lambda *a, **k: 1 / 0)
    retrain(Retrain(**config, resume=True))
    assert read_info(here / "r")["status"] == "finished"


def test_what_is_left_open_is_as_it_was_tracked(here):
    settings = {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.01, "schedule": "cosine", "epochs": 1}
    run = track(Track(**settings, lr=0.03, batch_size=99, out=here / "tracked"))
    path = split(Split(run=(run,)))
    config = read_info(retrain(Retrain(split=path, seeds=1, out=here / "same")))["config"]
    assert {name: config[name] for name in settings} == settings
    assert (config["model"], config["stem"], config["lr"], config["batch_size"]) == (
        "mlp",
        "standard",
        0.03,
        99,
    )
    other = Retrain(split=path, seeds=1, optimizer="rm3", weight_decay=0.0, out=here / "other")
    config = read_info(retrain(other))["config"]
    assert (config["optimizer"], config["momentum"], config["weight_decay"]) == ("rm3", None, 0.0)


def test_only_the_tracking_seed_may_differ_within_a_group(here):
    runs = [
        track(Track(epochs=1, seed=seed, schedule=schedule, out=here / f"{seed}{schedule}{copy}"))
        for seed, schedule, copy in (
            (0, "constant", ""),
            (1, "constant", ""),
            (1, "constant", "b"),
            (2, "cosine", ""),
        )
    ]
    out = report(Report(runs=tuple(runs), out=here / "out"))
    sections = json.loads((out / "summary.json").read_text())["sections"]
    assert [section["estimates"]["never learned"]["num_seeds"] for section in sections[:2]] == [2, 1]
    assert "cosine" in sections[1]["settings"]
    drawn = pd.read_csv(out / "figures/agreement-1.csv")
    pairs = drawn[drawn["kind"] == "runs"].groupby("differs")["num_pairs"].unique().map(list)
    assert pairs.to_dict() == {"seed": [2], "schedule+seed": [3], "nothing": [1]}


def test_runs_of_one_data_set_and_its_labels_are_compared(here, tracked):
    other = track(Track(epochs=6, lr=0.005, model="small_cnn", seed=1, out=here / "<b>other"))
    noisy = track(Track(epochs=1, noise=0.5, out=here / "noisy"))
    out = report(Report(runs=(tracked, other, noisy), out=here / "out"))
    sections = json.loads((out / "summary.json").read_text())["sections"]
    compared = [section for section in sections if section["title"] == "Do the scores agree?"]
    assert [section["figures"] for section in compared] == [["agreement-1"], ["agreement-2"]]
    assert "2 runs of mlp, small_cnn with sgdm" in compared[0]["settings"]
    assert "of the labels corrupt, eval records, one run of mlp" in compared[1]["settings"]
    assert any("differ in model+seed (1 pair)" in sentence for sentence in compared[0]["verdicts"])
    one, two = (pd.read_parquet(run / "scores.parquet")["mean_loss"] for run in (tracked, other))
    drawn = pd.read_csv(out / "figures/agreement-1.csv").query("kind == 'runs' and scope == 'plain'")
    expected = one.corr(two, method="spearman")
    assert drawn.set_index("score_a")["spearman"]["mean_loss"] == pytest.approx(expected, abs=1e-5)
    # After one epoch nothing varies.
    assert compared[1]["verdicts"][0].endswith("in at least one run: variability.")


def test_gradients_and_wrong_labels_are_told_where_they_are_known(here, capsys):
    settings = {"epochs": 3, "lr": 0.01, "noise": 0.3}
    looking = {"coherence_every": 1, "coherence_sample": 30}
    runs = [
        track(Track(**settings, **looking, seed=seed, noise_seed=seed, out=here / f"s{seed}"))
        for seed in (0, 1)
    ]
    # What is looked at changes nothing in what is learned: such runs are told together.
    plain = track(Track(**settings, seed=2, noise_seed=2, out=here / "s2"))
    report(Report(runs=(*runs, plain), out=here / "report"))
    summary = json.loads((here / "report/summary.json").read_text())
    sections = {section["title"]: section for section in summary["sections"]}
    gradients = sections["Do the gradients of easy examples agree?"]
    assert "label noise 0.3" in gradients["settings"]
    assert "30 examples of each group" in gradients["settings"]
    across = gradients["estimates"]["pristine - corrupt: over training"]
    tables = [pd.read_parquet(run / "coherence.parquet") for run in runs]
    by_hand = []
    for table in tables:
        rows = table[(table["layer"] == "whole network") & (table["epoch"] > 0)]
        means = rows.groupby("measured_on")["coherence"].mean()
        by_hand.append(means["pristine"] - means["corrupt"])
    assert across["mean"] == pytest.approx(np.mean(by_hand))
    assert across["num_seeds"] == 2
    labels = sections["Which scores find the wrong labels?"]
    assert labels["estimates"]["aum: auroc"]["num_seeds"] == 3
    assert labels["estimates"]["aum: auroc"]["mean"] > 0.9
    page = (here / "report/index.html").read_text()
    for sentence in gradients["verdicts"] + labels["verdicts"]:
        assert sentence.replace("<", "&lt;") in page
    figures = {path.name for path in (here / "report/figures").iterdir()}
    assert {"coherence-1.png", "coherence-1.csv", "label-errors-1.svg"} <= figures


def test_coherence_that_runs_do_not_share_is_no_obstacle(here):
    """One before training alone, one with other groups, one whose only corrupt example agrees with nobody."""
    common = {"epochs": 2, "noise": 0.3, "coherence_sample": 20}
    first = track(Track(**common, coherence_every=5, out=here / "first"))
    second = track(Track(**common, seed=1, checkpoint_every=2, out=here / "second"))
    split(Split(run=(second,), balance="class"))
    score(Score(run=(second,), coherence=True, coherence_sample=10))
    labels = pd.read_parquet(first / "examples.parquet")["clean_label"].copy()
    labels[0] = (labels[0] + 1) % 10
    pd.DataFrame({"example_id": range(1437), "label": labels}).to_csv(here / "one.csv", index=False)
    third = track(Track(epochs=1, given_labels=here / "one.csv", coherence_every=1, out=here / "third"))
    assert set(pd.read_parquet(third / "coherence.parquet")["measured_on"]) == {"train"}
    out = report(Report(runs=(first, second, third), out=here / "out"))
    summary = json.loads((out / "summary.json").read_text())
    sections = [each for each in summary["sections"] if each["title"].startswith("Do the gradients")]
    assert len(sections) == 2
    assert sections[0]["estimates"]["easy - hard: over training"]["num_seeds"] == 1
    assert "NaN" not in (out / "summary.json").read_text()

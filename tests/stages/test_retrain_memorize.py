"""Retraining on a split and training under label noise: what is trained on what, and measured on what."""

import shutil

import pandas as pd
import pytest
import torch

from hardness import datasets, models, seeding
from hardness.page.sections import all_sections
from hardness.runs.reading import read_info, read_log
from hardness.stages.memorize import Memorize, memorize
from hardness.stages.retrain import Retrain, retrain
from hardness.stages.split import Split, split
from hardness.subsets import SUBSETS
from tests.conftest import refused
from tests.made_runs import retrained_run, tracked_run

HARDNESS = "Do easy examples generalize better within their own set?"
COLUMNS = [
    *("trained_on", "optimizer", "noise", "seed", "epoch"),
    *("measured_on", "loss", "top1", "top5", "num_examples"),
]
GRID = {"noise": (0.5, 1.0), "optimizers": ("sgd", "m3"), "seeds": 2, "epochs": 2, "batch_size": 256}


@pytest.fixture(scope="module")
def made_split(made_run, tmp_path_factory):
    run = shutil.copytree(made_run, tmp_path_factory.mktemp("split") / "tracked")
    return split(Split(run=(run,)))


@pytest.fixture(scope="module")
def retrained(made_split, tmp_path_factory):
    out = tmp_path_factory.mktemp("retrain") / "retrained"
    return retrain(Retrain(split=made_split, seeds=2, epochs=2, out=out))


@pytest.fixture(scope="module")
def memorized(tmp_path_factory):
    return memorize(Memorize(**GRID, out=tmp_path_factory.mktemp("memorize") / "memorized"))


def test_every_subset_is_trained_and_measured_on_every_test_fold(retrained):
    curves = pd.read_parquet(retrained / "curves.parquet")
    assert list(curves.columns) == COLUMNS
    measured = {*SUBSETS, "validation", "train"}
    assert len(curves) == len(SUBSETS) * 2 * 3 * len(measured)
    assert set(curves["trained_on"]) == set(SUBSETS)
    assert set(curves["measured_on"]) == measured
    assert sorted(curves["epoch"].unique()) == [0, 1, 2]
    sizes = curves.groupby("measured_on")["num_examples"].unique().map(list).to_dict()
    assert sizes == {name: [48] for name in SUBSETS} | {"train": [239], "validation": [360]}
    info = read_info(retrained)
    assert info["split"]["quantile"] == 0.2
    assert info["tracking_seed"] == "0"
    assert info["config"]["model"] == "mlp"  # as tracked
    assert info["config"]["batch_size"] == 64


def test_all_subsets_but_not_all_seeds_start_from_the_same_weights(retrained):
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
    given = datasets.labels.noisy_labels(data.train.clean_labels, 0.5, 0)
    model = models.build("mlp", data, seed=seeding.derive(1, "init"))
    right = (model(data.train.inputs[range(len(data.train))]).argmax(1) == given).double()
    corrupt = given != data.train.clean_labels
    curves = pd.read_parquet(memorized / "curves.parquet").query("noise == 0.5 and seed == 1 and epoch == 0")
    top1 = curves.groupby("measured_on")["top1"].first()
    assert top1["corrupt"] == pytest.approx(right[corrupt].mean().item())
    assert top1["pristine"] == pytest.approx(right[~corrupt].mean().item())
    assert torch.equal(data.train.given_labels, data.train.clean_labels)


def test_finished_members_are_not_trained_again(here, monkeypatch, memorized):
    build, built = models.build, []

    def stop_at_the_third(*args, **kwargs):
        if len(built) == 2:
            raise KeyboardInterrupt
        built.append(kwargs["seed"])
        return build(*args, **kwargs)

    monkeypatch.setattr(models, "build", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        memorize(Memorize(**GRID, out=here / "cut"))
    assert len(list((here / "cut/members").iterdir())) == 2
    monkeypatch.setattr(models, "build", lambda *a, **k: built.append(k["seed"]) or build(*a, **k))
    memorize(Memorize(**GRID, out=here / "cut", resume=True))
    assert len(built) == 8
    pd.testing.assert_frame_equal(
        pd.read_parquet(here / "cut/curves.parquet"), pd.read_parquet(memorized / "curves.parquet")
    )
    assert len(read_log(here / "cut")) == 8 * 2
    assert not (here / "cut/members").exists()


def test_several_controls_are_trained_on_and_leave_the_others_as_they_are(made_split, here, capsys):
    run = shutil.copytree(made_split.parents[1], here / "tracked")
    path = split(Split(run=(run,), controls=2))
    config = {"seeds": 1, "epochs": 1, "batch_size": 256}
    one, two = (retrain(Retrain(split=file, **config, out=here / file.stem)) for file in (made_split, path))
    curves = pd.read_parquet(two / "curves.parquet")
    more = {"easy-control-2", "hard-control-2"}
    assert set(curves["trained_on"]) == {*SUBSETS, *more}
    assert set(curves["measured_on"]) == {*SUBSETS, "validation", "train"}
    pd.testing.assert_frame_equal(
        curves[~curves["trained_on"].isin(more)].reset_index(drop=True),
        pd.read_parquet(one / "curves.parquet"),
    )
    assert "0.333" in capsys.readouterr().out


def test_a_report_compares_runs_with_one_and_several_controls(made_split, here):
    run = shutil.copytree(made_split.parents[1], here / "tracked")
    path = split(Split(run=(run,), controls=2))
    one, two = (retrained_run(here / file.stem, file, seeds=1) for file in (made_split, path))
    sections = [all_sections({run: read_info(run) for run in runs}) for runs in ((one,), (two,), (one, two))]
    assert [[section.title for section in found] for found in sections] == [
        [HARDNESS],
        [HARDNESS],
        [HARDNESS, HARDNESS, "Comparison of settings"],
    ]
    (single,), (several,), _ = sections
    assert [drawing.name for drawing in single.drawings] == ["subset-bars-1", "transfer-1", "subset-curves-1"]
    assert [drawing.name for drawing in several.drawings][3:] == ["controls-1"]
    assert "2 controls" in several.settings
    assert "easy among its controls, tracking seed 0: p-value" in several.estimates
    assert not any("among" in name for name in single.estimates)
    # A run of an older version, with one control, is grouped with newer ones.
    older = read_info(one) | {"tracking_seed": "1"}
    del older["split"]["controls"], older["split"]["drop_twins"]
    (section,) = all_sections({one: read_info(one), shutil.copytree(one, here / "older"): older})
    assert section.estimates["within-subset"].num_seeds == 2


def test_a_split_of_other_data_is_refused(made_split, made_run, image_folder):
    with refused("data-changed", expected=read_info(made_run)["fingerprint"]):
        retrain(Retrain(split=made_split, data=f"imagefolder:{image_folder}", out=image_folder.parent / "r"))
    assert not (image_folder.parent / "r").exists()


def test_a_trained_grid_is_not_trained_again(here, monkeypatch, made_split):
    from hardness.stages import retrain as stage

    config = {"split": made_split, "batch_size": 256, "seeds": 1, "epochs": 1, "out": here / "r"}
    monkeypatch.setattr(stage, "transfer_matrix", lambda curves: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        retrain(Retrain(**config))
    monkeypatch.undo()
    monkeypatch.setattr(models, "build", lambda *a, **k: 1 / 0)
    retrain(Retrain(**config, resume=True))
    assert read_info(here / "r")["status"] == "finished"


def test_settings_that_are_not_given_are_as_tracked(here):
    settings = {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.01, "schedule": "cosine", "epochs": 1}
    run = tracked_run(here / "tracked", **settings, lr=0.03, batch_size=99)
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

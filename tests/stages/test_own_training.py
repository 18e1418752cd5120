"""retrain and memorize with a training function of the user's own."""

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch

import hardness
from hardness import Recorder
from hardness.runs.reading import read_info
from hardness.settings.show import Show
from hardness.settings.split import Split
from hardness.stages.show import show
from hardness.stages.split import split
from hardness.subsets import SUBSETS
from hardness.training.step import train_step
from tests.conftest import refused

NUM, EPOCHS = 240, 3
LABELS = np.arange(NUM) % 3
POINTS = torch.randn(NUM, 5, generator=torch.Generator().manual_seed(0))
POINTS[torch.arange(NUM), torch.from_numpy(LABELS)] += 2


class Trainer:
    """A linear classifier of ``POINTS``; remembers what it was asked for."""

    def __init__(self, epochs=EPOCHS):
        self.epochs, self.calls, self.asked = epochs, [], []

    def __call__(self, ids, labels, *, seed, make_optimizer):
        torch.manual_seed(seed)
        model = torch.nn.Linear(5, 3)
        optimizer = make_optimizer(model.parameters())
        self.calls.append((ids, labels, seed, type(optimizer).__name__, optimizer.defaults["lr"]))
        for _ in range(self.epochs):
            for batch in torch.randperm(len(ids)).split(12):
                train_step(model, optimizer, POINTS[ids[batch]], torch.from_numpy(labels)[batch])

            trained = deepcopy(model)
            yield lambda ids, trained=trained: self.asked.append(ids) or trained(POINTS[ids])


@pytest.fixture
def recorded(tmp_path):
    """A run with ids 0..NUM-1, of which the last was never recorded, and a split of it."""
    run, generator = tmp_path / "run", torch.Generator().manual_seed(1)
    ids = np.arange(NUM - 1)
    with Recorder(run, NUM, missing="null") as recorder:
        for epoch in range(1, 4):
            noise = torch.randn(NUM - 1, 3, generator=generator)
            recorder.update(ids, POINTS[ids, :3] * epoch + noise, LABELS[ids])
            recorder.end_epoch()
    split(Split(run=(run,), quantile=0.3, by="mean_loss"))
    return run


def test_retrain_trains_on_the_folds_of_the_split(recorded, tmp_path):
    train = Trainer()
    out = hardness.retrain(str(recorded), train=train, optimizer="m3", lr=0.3, seeds=2, out=tmp_path / "out")
    subsets = pd.read_parquet(recorded / "splits" / "q0.3-mean_loss.parquet")
    folds = {key: set(group["example_id"]) for key, group in subsets.groupby(["subset", "fold"])}
    expected = [folds[name, "train"] for name in subsets["subset"].unique()] * 2
    assert [set(ids) for ids, *_ in train.calls] == expected
    assert all((labels == LABELS[ids]).all() for ids, labels, *_ in train.calls)
    seeds = [seed for _, _, seed, *_ in train.calls]
    assert len({*seeds[:5]}) == len({*seeds[5:]}) == 1
    assert seeds[0] != seeds[5]
    assert {call[3:] for call in train.calls} == {("M3", 0.3)}
    curves = pd.read_parquet(out / "curves.parquet")
    assert set(curves["measured_on"]) == {*SUBSETS, "train"}
    assert set(curves["epoch"]) == {1, 2, 3}
    assert read_info(out)["config"]["epochs"] == EPOCHS
    # What a member's predictions say, by hand: the last one of the first member, on the easy test fold.
    easy = curves.query("trained_on == 'easy' and seed == 0 and epoch == 3 and measured_on == 'easy'")
    ids = np.sort([*folds["easy", "test"]])
    again = list(Trainer()(*train.calls[0][:2], seed=seeds[0], make_optimizer=m3))[-1](ids)
    assert easy["top1"].item() == pytest.approx((again.argmax(1).numpy() == LABELS[ids]).mean())


def m3(params):
    return hardness.optim.M3(params, lr=0.3)


def test_memorize_draws_noise_and_holds_out_a_validation_set(recorded, tmp_path, capsys):
    train = Trainer()
    settings = {"optimizers": ["sgd", "rm3"], "noise": [0, 0.5], "lr": {"sgd": 0.1, "rm3": 0.2}}
    out = hardness.memorize(recorded, train=train, **settings, out=tmp_path / "out")
    (ids, clean, *_), _, (_, noisy, *_), _ = train.calls
    assert (clean == LABELS[ids]).all()
    assert 0.2 < (noisy != clean).mean() < 0.5
    assert [call[3:] for call in train.calls] == [("SGD", 0.1), ("RM3", 0.2)] * 2
    # A fifth of each class is held out; the example without a record is in neither part.
    assert np.bincount(LABELS[ids]).tolist() == [64, 64, 63]
    asked = set(np.concatenate(train.asked))
    assert asked == set(range(NUM - 1))
    curves = pd.read_parquet(out / "curves.parquet")
    sizes = curves.groupby("measured_on")["num_examples"].unique().to_dict()
    assert sizes["validation"] == [48]
    corrupt = curves.query("measured_on == 'corrupt' and noise == 0.5")["num_examples"]
    assert set(corrupt) == {(noisy != clean).sum()}
    report = hardness.report(runs=[recorded, out], out=tmp_path / "report")
    assert "your own training loop, lr of each: sgd 0.1; rm3 0.2" in (report / "index.html").read_text()
    show(Show(run=out))
    assert "your own training loop" in capsys.readouterr().out


def test_noise_is_drawn_on_clean_labels_where_they_are_known(tmp_path):
    run, given = tmp_path / "run", np.where(np.arange(NUM) < 30, 0, LABELS)
    with Recorder(run, NUM) as recorder:
        recorder.describe(clean_labels=LABELS)
        recorder.update(np.arange(NUM), POINTS[:, :3], given)
        recorder.end_epoch()
    train = Trainer()
    hardness.memorize(run, train=train, optimizers=["sgd"], noise=[0], out=tmp_path / "out")
    ids, labels, *_ = train.calls[0]
    assert (labels == LABELS[ids]).all()


def test_finished_networks_are_not_trained_again(recorded, tmp_path):
    settings = {"optimizers": ["sgd", "a3", "m3"], "noise": [0.5]}
    hardness.memorize(recorded, train=Trainer(), **settings, out=tmp_path / "whole")
    train = Trainer()

    def fails_at_the_third(*args, **settings):
        if len(train.calls) == 2:
            raise RuntimeError("out of luck")
        return train(*args, **settings)

    with pytest.raises(RuntimeError, match="out of luck"):
        hardness.memorize(recorded, train=fails_at_the_third, **settings, out=tmp_path / "out")
    train = Trainer()
    hardness.memorize(recorded, train=train, **settings, out=tmp_path / "out", resume=True)
    assert [call[3] for call in train.calls] == ["M3"]
    whole, resumed = (pd.read_parquet(tmp_path / name / "curves.parquet") for name in ("whole", "out"))
    pd.testing.assert_frame_equal(whole, resumed)
    with refused("other-settings", setting="seeds"):
        hardness.memorize(recorded, train=train, **settings, seeds=2, out=tmp_path / "out")


def wrong_shape(ids, labels, *, seed, make_optimizer):
    yield lambda ids: torch.zeros(len(ids), 2)


def not_finite(ids, labels, *, seed, make_optimizer):
    yield lambda ids: np.full((len(ids), 3), np.nan)


def nothing(ids, labels, *, seed, make_optimizer):
    return []


@pytest.mark.parametrize(
    ("train", "error", "message"),
    [
        (wrong_shape, ValueError, r"shape \(\d+, 3\), not \(\d+, 2\)"),
        (not_finite, hardness.errors.UserError, "nan or inf"),
        (nothing, ValueError, "yielded nothing"),
    ],
)
def test_a_training_function_that_does_something_else(recorded, tmp_path, train, error, message):
    with pytest.raises(error, match=message):
        hardness.memorize(recorded, train=train, out=tmp_path / "out")


def test_members_must_train_equally_long(recorded, tmp_path):
    lengths = iter([3, 2])

    def train(*args, **settings):
        return Trainer(next(lengths))(*args, **settings)

    with pytest.raises(ValueError, match="not 2 to 3 times"):
        hardness.memorize(recorded, train=train, optimizers=["sgd", "m3"], noise=[0], out=tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"optimizers": ["adamq"]}, "unknown-name"),
        ({"noise": [2]}, "out-of-range"),
        ({"val_fraction": 1}, "out-of-range"),
        ({"lr": 0}, "out-of-range"),
        ({"lr": {"sgd": 0.1}}, "no-learning-rate"),
        ({"optimizers": ["sgd", "sgd"]}, "repeated-values"),
    ],
)
def test_wrong_settings(recorded, settings, code):
    with refused(code):
        hardness.memorize(recorded, train=Trainer(), **settings)


def test_a_folder_that_is_not_a_run(tmp_path):
    with refused("not-a-run"):
        hardness.memorize(tmp_path / "none", train=Trainer())

"""``Recorder.update_losses``: losses without logits, as of sequences and regression."""

import numpy as np
import pandas as pd
import pytest
import torch

import hardness
from hardness import Recorder
from hardness.dynamics import store
from hardness.settings.export import Export
from hardness.settings.labels import Labels
from hardness.settings.report import Report
from hardness.settings.show import Show
from hardness.settings.split import Split
from hardness.stages.export import export
from hardness.stages.labels import labels
from hardness.stages.report import report
from hardness.stages.show import show
from hardness.stages.split import split
from tests.conftest import refused

LOSSES = np.array([[2.0, 1e-6, 30.0, 0.5], [1.0, 0.0, 200.0, 0.25]], np.float32)
CORRECT = np.array([[False, True, False, False], [True, True, False, True]])


def record(run, correct=None, losses=LOSSES):
    with Recorder(run, losses.shape[1], precision="float32") as recorder:
        for epoch, values in enumerate(losses):
            columns = [np.arange(losses.shape[1]), values]
            columns += [] if correct is None else [correct[epoch]]
            # In two batches, of which the second is of lists.
            recorder.update_losses(*(column[:1] for column in columns))
            recorder.update_losses(*(column[1:].tolist() for column in columns))
            summary = recorder.end_epoch()
    return summary


def test_losses_alone(tmp_path):
    summary = record(tmp_path)
    assert summary.loss == pytest.approx(LOSSES[1].mean())
    assert np.isnan(summary.accuracy)
    assert np.isnan(summary.learned)
    for epoch in (1, 2):
        records = store.read_epoch(tmp_path, epoch)
        np.testing.assert_array_equal(records.loss, LOSSES[epoch - 1])
        assert records.is_readable.all()
        assert records.known == {"loss"}
    raw = pd.read_parquet(tmp_path / "dynamics/epoch=1/part-0.parquet")
    assert raw[["prediction", "margin", "el2n"]].isna().to_numpy().all()
    table = hardness.scores(tmp_path)
    assert list(table) == ["example_id", "mean_loss", "last_loss", "loss_rank"]
    np.testing.assert_allclose(table["mean_loss"], LOSSES.mean(0), rtol=1e-6)


def test_losses_with_whether_they_are_correct(tmp_path):
    summary = record(tmp_path, CORRECT)
    assert (summary.accuracy, summary.learned) == (0.75, 0.75)
    table = hardness.scores(tmp_path)
    assert table["first_learned_epoch"].tolist()[:2] == [2, 1]
    assert table["first_learned_epoch"].isna().tolist() == [False, False, True, False]
    assert table["correctness"].tolist() == [0.5, 1, 0, 0.5]
    assert not {"aum", "el2n", "confidence"} & set(table)


@pytest.mark.parametrize("correct", [None, True])
def test_stages_on_losses(tmp_path, capsys, correct):
    rng = np.random.default_rng(0)
    losses = rng.exponential(size=(3, 60)).astype(np.float32)
    run, out = tmp_path / "run", tmp_path / "report"
    record(run, rng.random((3, 60)) < 0.5 if correct else None, losses)
    path = split(Split(run=(run,), by="mean_loss"))
    assert set(pd.read_parquet(path)["subset"]) >= {"easy", "hard"}
    labels(Labels(run=run, by="mean_loss"))
    order = pd.read_parquet(run / "labels.parquet")["example_id"]
    assert order.tolist() == np.argsort(-losses.mean(0)).tolist()
    exported = pd.read_csv(export(Export(run=run)))
    np.testing.assert_allclose(exported["mean_loss"], losses.mean(0), rtol=1e-5)
    report(Report(runs=(run,), out=out))
    assert "nan" not in (out / "summary.md").read_text()
    show(Show(run=run))
    assert "60 examples, losses only" in capsys.readouterr().out
    with refused("not-scored", score="aum"):
        labels(Labels(run=run))
    with refused("score-not-recorded", score="aum"):
        hardness.split(run, by="aum")


@pytest.mark.parametrize("wrong", [-0.5, np.nan, np.inf])
def test_a_loss_that_is_no_loss(tmp_path, wrong):
    with Recorder(tmp_path, 2) as recorder:
        recorder.update_losses([0, 1], [1.0, wrong])
        with pytest.raises(ValueError, match=r"1 with a loss that is negative or not finite \(first: 1\)"):
            recorder.end_epoch()


def test_losses_have_no_clean_labels(tmp_path):
    with Recorder(tmp_path, 2) as recorder:
        recorder.describe(clean_labels=[0, 1])
        recorder.update_losses([0, 1], [1.0, 2.0])
        recorder.end_epoch()
    with refused("losses-have-no-labels"):
        labels(Labels(run=tmp_path, by="mean_loss"))


def test_losses_and_logits_cannot_be_mixed(tmp_path):
    with Recorder(tmp_path, 2) as recorder:
        recorder.update_losses([0, 1], [1.0, 2.0])
        with pytest.raises(ValueError, match="cannot be mixed"):
            recorder.update([0, 1], torch.zeros(2, 3), [0, 1])
        recorder.end_epoch()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0, 1], [[1.0], [2.0]]), ValueError, "expected shapes"),
        (([0, 1], [1.0]), ValueError, "expected shapes"),
        (([0, 1], [1.0, 2.0], [True]), ValueError, "correct"),
        (([0, 1], [1, 2]), TypeError, "losses must be floats"),
        (([0.0, 1.0], [1.0, 2.0]), TypeError, "integers"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, error, message):
    with Recorder(tmp_path, 2) as recorder, pytest.raises(error, match=message):
        recorder.update_losses(*arguments)


def test_records_of_which_only_some_lack_a_prediction_are_unreadable_there(tmp_path):
    """As before losses could be recorded alone: a missing prediction must not look wrong."""
    record(tmp_path, CORRECT)
    path = tmp_path / "dynamics/epoch=1/part-0.parquet"
    table = pd.read_parquet(path).astype({"prediction": "Int32"})
    table.loc[0, "prediction"] = pd.NA
    table.to_parquet(path)
    assert store.read_epoch(tmp_path, 1).is_readable.tolist() == [False, True, True, True]


class Lent:
    """An array that lends its memory by DLPack alone, as those of JAX."""

    def __init__(self, values):
        self.values = torch.as_tensor(values)

    def __dlpack__(self, **settings):
        return self.values.__dlpack__(**settings)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


def test_arrays_of_other_libraries(tmp_path):
    with Recorder(tmp_path / "lent", 2) as recorder:
        recorder.update(Lent([0, 1]), Lent([[1.0, 0.0], [0.0, 2.0]]), Lent([0, 0]))
        assert recorder.end_epoch().accuracy == 0.5
    with Recorder(tmp_path / "array", 2) as recorder:
        frame = pd.DataFrame({"id": [0, 1], "label": [0, 0]})
        recorder.update(frame["id"], np.eye(2, dtype=">f4"), frame["label"])
        assert recorder.end_epoch().accuracy == 0.5

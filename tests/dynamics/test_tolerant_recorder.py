"""Examples that a loop repeats or leaves out: refused by default, or one record of each, or null."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hardness
from hardness import Recorder
from hardness.dynamics import own_runs, store
from hardness.page.gallery import gallery
from hardness.settings.export import Export
from hardness.stages.export import export

NUM = 5


def logits_of(values) -> torch.Tensor:
    """Two classes; the margin of class 1 is the value."""
    return torch.tensor([[0.0, value] for value in values])


def test_the_message_of_a_strict_recorder_names_both_settings(tmp_path):
    with Recorder(tmp_path, NUM) as recorder:
        recorder.update([0, 0, 1], logits_of([1, 2, 3]), [1, 1, 1])
        with pytest.raises(ValueError, match='repeats="first" or "last"') as caught:
            recorder.end_epoch()
    assert 'missing="null"' in str(caught.value)


@given(batches=st.lists(st.lists(st.integers(0, NUM - 1), min_size=1, max_size=7), min_size=1, max_size=4))
@pytest.mark.parametrize("keep", ["first", "last"])
def test_one_record_of_each_is_kept(tmp_path_factory, keep, batches):
    path = tmp_path_factory.mktemp("run")
    expected, value = {}, 0
    with Recorder(path, NUM, repeats=keep, missing="null", precision="float32") as recorder:
        for ids in batches:
            values = []
            for example in ids:
                value += 1
                values.append(float(value))
                if keep == "last" or example not in expected:
                    expected[example] = float(value)
            recorder.update(ids, logits_of(values), [1] * len(ids))
        recorder.end_epoch()
    records = store.read_epoch(path, 1)
    found = {example: records.margin[example] for example in np.flatnonzero(records.is_readable)}
    assert found == expected


def test_an_id_outside_is_refused_in_any_case(tmp_path):
    for keep in ("first", "last"):
        with Recorder(tmp_path / keep, NUM, repeats=keep, missing="null") as recorder:
            recorder.update([0, NUM, NUM, -1], logits_of([1, 2, 3, 4]), [1] * 4)
            with pytest.raises(ValueError, match=r"ids outside 0\.\.4"):
                recorder.end_epoch()


def test_an_epoch_without_any_record_is_refused(tmp_path):
    with Recorder(tmp_path, NUM, missing="null") as recorder, pytest.raises(ValueError, match="5 missing"):
        recorder.end_epoch()


def record_partly(path):
    """Margins by epoch; None: not seen."""
    margins = [[1, 1, -1, None, None], [None, 2, 1, None, 1], [1, -1, None, None, 1]]
    with Recorder(path, NUM, missing="null", precision="float32") as recorder:
        for epoch in margins:
            seen = [example for example, margin in enumerate(epoch) if margin is not None]
            recorder.update(seen, logits_of([epoch[example] for example in seen]), [1] * len(seen))
            recorder.end_epoch()
    return path


def test_scores_are_over_the_epochs_that_have_a_record(tmp_path):
    table = hardness.scores(record_partly(tmp_path))
    assert list(table["num_records"]) == [2, 3, 2, 0, 2]
    expected = {
        "first_learned_epoch": [1, 1, 2, pd.NA, 2],
        # Example 1 is wrong at the end; example 2 is right at its last record.
        "learned_epoch": [1, pd.NA, 2, pd.NA, 2],
        "forgetting_events": [0, 1, 0, pd.NA, 0],
        "correctness": [1, 2 / 3, 1 / 2, np.nan, 1],
        "aum": [1, 2 / 3, 0, np.nan, 1],
    }
    for name, values in expected.items():
        pd.testing.assert_series_equal(
            table[name].astype("Float64"), pd.Series(values, dtype="Float64"), check_names=False
        )
    assert table["last_loss"][2] == pytest.approx(np.log1p(np.exp(-1)), rel=1e-6)
    margins = np.array([[-1.0, 1.0]])
    probabilities = 1 / (1 + np.exp(-margins))
    assert table["variability"][2] == pytest.approx(probabilities.std(), rel=1e-6)
    assert table.loc[3].drop(["example_id", "num_records"]).isna().all()


def test_labels_and_gallery_of_a_partly_recorded_run(tmp_path):
    run = record_partly(tmp_path)
    assert set(hardness.labels(run)["example_id"]) == {0, 1, 2, 4}
    cards = [card for group in gallery({run: own_runs.complete(run)}).groups for card in group.cards]
    assert {card.example_id for card in cards} <= {0, 1, 2, 4}
    assert all(card.curve for card in cards)


def test_an_example_without_any_record_has_no_label_and_is_not_corrupt(tmp_path):
    run = record_partly(tmp_path)
    with Recorder(run, NUM, resume=True, missing="null", precision="float32") as recorder:
        recorder.describe(clean_labels=[1, 1, 0, 1, 1])
    info = own_runs.complete(run)
    examples = pd.read_parquet(run / "examples.parquet")
    assert examples["given_label"].tolist() == [1, 1, 1, -1, 1]
    assert examples["is_readable"].tolist() == [True, True, True, False, True]
    assert examples["is_corrupt"].tolist() == [False, False, True, False, False]
    assert info["noise_rate"] == 0.25
    exported = pd.read_csv(export(Export(run=run)))
    assert exported["given_label"].isna().tolist() == [False, False, False, True, False]


def test_a_label_that_changes_between_later_epochs_is_refused(tmp_path):
    with Recorder(tmp_path, 2, missing="null") as recorder:
        for ids, labels in (([0], [1]), ([1], [0]), ([1], [1])):
            recorder.update(ids, logits_of([1]), labels)
            recorder.end_epoch()
    with pytest.raises(hardness.errors.UserError, match="labels-differ"):
        hardness.scores(tmp_path)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Dropout(0.9), torch.nn.BatchNorm1d(2))

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("by_name", [False, True])
def test_an_evaluation_pass_has_no_dropout_and_leaves_the_network_as_it_was(tmp_path, by_name):
    network, inputs = Net().train(), torch.randn(6, 2)
    network.layers[1].eval()
    batches = torch.arange(6).view(2, 3)
    loader = [({"x": inputs[ids]} if by_name else inputs[ids], torch.ones(3), ids) for ids in batches]
    with Recorder(tmp_path, 6, precision="float32") as recorder:
        recorded = hardness.record_pass(network, loader, recorder)
    assert recorded.num_examples == 6
    assert network.training
    assert network.layers[0].training
    assert not network.layers[1].training
    expected = torch.nn.functional.cross_entropy(
        network.eval()(inputs), torch.ones(6).long(), reduction="none"
    )
    assert np.allclose(store.read_epoch(tmp_path, 1).loss, expected.detach(), atol=1e-5)


def test_modes_are_restored_after_an_error(tmp_path):
    network = Net().train()
    with Recorder(tmp_path, 6) as recorder, pytest.raises(ValueError, match="shapes"):
        hardness.record_pass(network, [(torch.randn(3, 2), torch.ones(2), torch.arange(3))], recorder)
    assert network.training

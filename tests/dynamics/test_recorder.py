import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from hardness import Recorder
from hardness.dynamics import store
from hardness.dynamics.recorder import record
from hardness.errors import UserError


def test_five_examples_worked_by_hand():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [math.log(3), 0.0], [2.0, 5.0], [2.0, 5.0]])
    labels = torch.tensor([0, 0, 1, 1, 0])
    prediction, loss, margin, el2n = record(logits, labels)
    assert prediction.tolist()[1:] == [0, 0, 1, 1]
    # Probabilities of the label: 1/2, 3/4, 1/4, s, 1 - s with s = 1 / (1 + e^-3).
    s = 1 / (1 + math.exp(-3))
    assert loss.tolist() == pytest.approx([-math.log(p) for p in (0.5, 0.75, 0.25, s, 1 - s)], rel=1e-5)
    assert margin.tolist() == pytest.approx([0, math.log(3), -math.log(3), 3, -3], rel=1e-5)
    assert el2n.tolist() == pytest.approx(
        [math.sqrt(2) * (1 - p) for p in (0.5, 0.75, 0.25, s, 1 - s)], rel=1e-4
    )


@given(st.integers(2, 7), st.integers(1, 9), st.integers(0, 99))
def test_every_column_against_its_definition(num_classes, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, num_classes, generator=generator)
    labels = torch.randint(0, num_classes, (batch,), generator=generator)
    prediction, loss, margin, el2n = record(logits, labels)
    for row in range(batch):
        probabilities = logits[row].double().softmax(0)
        one_hot = torch.eye(num_classes)[labels[row]]
        others = torch.cat([logits[row][: labels[row]], logits[row][labels[row] + 1 :]])
        assert prediction[row] == logits[row].argmax()
        assert loss[row].item() == pytest.approx(-probabilities[labels[row]].log().item(), abs=1e-5)
        assert margin[row].item() == pytest.approx((logits[row][labels[row]] - others.max()).item(), abs=1e-5)
        assert el2n[row].item() == pytest.approx((probabilities - one_hot).norm().item(), abs=1e-5)


def feed(recorder: Recorder, ids, batch: int = 3) -> None:
    generator = torch.Generator().manual_seed(len(ids))
    for some in torch.tensor(ids, dtype=torch.int64).split(batch):
        recorder.update(some, torch.randn(len(some), 4, generator=generator), some % 4)


def test_an_epoch_is_one_file_sorted_by_id_that_pandas_reads(tmp_path):
    with Recorder(tmp_path, 7) as recorder:
        feed(recorder, [6, 2, 4, 0, 1, 5, 3])
        recorder.end_epoch()
        feed(recorder, range(7))
        recorder.end_epoch()
    table = pd.read_parquet(tmp_path / "dynamics")
    assert table["example_id"].tolist() == [*range(7), *range(7)]
    assert sorted(table["epoch"].astype(int).unique()) == [1, 2]
    assert (table["given_label"] == table["example_id"] % 4).all()
    assert table.dtypes[["loss", "margin", "el2n"]].eq(np.float32).all()
    assert sorted(path.name for path in tmp_path.rglob("*.parquet")) == ["part-0.parquet"] * 2


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        ([0, 1, 2], "1 missing (the first: 3)"),
        ([0, 1, 2, 3, 2], "1 repeated (the first: 2)"),
        ([0, 1, 2, 3, 4], "1 ids outside 0..3"),
        ([0, 1, 2, 3, -1], "1 ids outside 0..3"),
    ],
)
def test_every_id_once_or_it_says_which(tmp_path, ids, told):
    recorder = Recorder(tmp_path, 4)
    feed(recorder, ids, batch=2)
    with pytest.raises(ValueError, match="epoch 1 must record every example id once") as refused:
        recorder.end_epoch()
    assert told in str(refused.value)
    assert not list(tmp_path.rglob("*.parquet"))


def test_unreadable_examples_are_recorded_as_null(tmp_path):
    recorder = Recorder(tmp_path, 4, unreadable=np.array([1]))
    feed(recorder, [0, 2, 3])
    recorder.end_epoch()
    table = pd.read_parquet(tmp_path / "dynamics")
    assert table["loss"].isna().tolist() == [False, True, False, False]
    assert table["prediction"].isna().tolist() == [False, True, False, False]
    assert not store.read_epoch(tmp_path, 1).is_readable[1]


def test_another_runs_records_are_refused_and_ones_own_gone_on_with(tmp_path):
    with Recorder(tmp_path, 3, fingerprint="abc") as recorder:
        feed(recorder, range(3))
        recorder.end_epoch()
        feed(recorder, range(2))  # an epoch that never ends
    with pytest.raises(UserError, match="no records yet"):
        Recorder(tmp_path, 3)
    with pytest.raises(UserError, match="data set def"):
        Recorder(tmp_path, 3, resume=True, fingerprint="def")
    with pytest.raises(UserError, match="expected 4 examples"):
        Recorder(tmp_path, 4, resume=True, fingerprint="abc")
    with Recorder(tmp_path, 3, resume=True, fingerprint="abc") as recorder:
        assert recorder.epoch == 2
        feed(recorder, range(3))
        recorder.end_epoch()
    assert store.recorded_epochs(tmp_path) == [1, 2]


class CountSyncs(TorchDispatchMode):
    """Counts the operations that would make the host wait for a device."""

    names = ("_local_scalar_dense", "nonzero", "_to_copy", "item")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        if name in self.names:
            self.seen.append(name)
        return function(*args, **(kwargs or {}))


def test_update_never_waits_for_the_device(tmp_path):
    recorder = Recorder(tmp_path, 8)
    with CountSyncs() as counted:
        recorder.update(torch.arange(8), torch.randn(8, 3), torch.zeros(8, dtype=torch.int64))
    assert counted.seen == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_update_never_waits_for_a_gpu(tmp_path):
    recorder = Recorder(tmp_path, 8, device="cuda")
    ids, logits, labels = (
        t.cuda() for t in (torch.arange(8), torch.randn(8, 3), torch.zeros(8, dtype=torch.int64))
    )
    torch.cuda.set_sync_debug_mode("error")
    try:
        recorder.update(ids, logits, labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_recorder_on_the_host_waits_for_what_a_gpu_sends(tmp_path):
    recorder = Recorder(tmp_path, 4096)
    logits, labels = (
        torch.randn(4096, 100, device="cuda"),
        torch.zeros(4096, dtype=torch.int64, device="cuda"),
    )
    recorder.update(torch.arange(4096, device="cuda"), logits, labels)
    recorder.end_epoch()
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none").cpu()
    assert np.allclose(store.read_epoch(tmp_path, 1).loss, expected, atol=1e-4)

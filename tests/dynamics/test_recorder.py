import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from hardness import Recorder
from hardness.dynamics import store
from hardness.errors import UserError
from tests.conftest import refused
from tests.dynamics.feed import feed


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
    ("ids", "message"),
    [
        ([0, 1, 2], "1 missing (first: 3)"),
        ([0, 1, 2, 3, 2], "1 repeated (first: 2)"),
        ([0, 1, 2, 3, 9], "1 ids outside 0..3 (ids are 0..9)"),
        ([0, 1, 2, 3, -7, -1], "2 ids outside 0..3 (ids are -7..3)"),
    ],
)
def test_missing_repeated_and_other_ids_are_named(tmp_path, ids, message):
    recorder = Recorder(tmp_path, 4)
    feed(recorder, ids, batch=2)
    with pytest.raises(ValueError, match="epoch 1 ") as caught:
        recorder.end_epoch()
    assert message in str(caught.value)
    assert not list(tmp_path.rglob("*.parquet"))


def test_unreadable_examples_are_recorded_as_null(tmp_path):
    with Recorder(tmp_path, 4, unreadable=np.array([1])) as recorder:
        feed(recorder, [0, 2, 3])
        assert recorder.end_epoch().num_examples == 3
    table = pd.read_parquet(tmp_path / "dynamics")
    assert table["loss"].isna().tolist() == [False, True, False, False]
    for name in ("given_label", "prediction", "margin", "el2n"):
        assert table[name].isna().tolist() == [False, True, False, False]
    assert not store.read_epoch(tmp_path, 1).is_readable[1]


def test_another_runs_records_are_refused_and_its_own_are_continued(tmp_path):
    with Recorder(tmp_path, 3, fingerprint="abc") as recorder:
        feed(recorder, range(3))
        recorder.end_epoch()
        feed(recorder, range(2))  # an epoch that never ends
    with refused("records-exist", path=str(tmp_path), epochs=1):
        Recorder(tmp_path, 3)
    with pytest.raises(UserError, match="def"):
        Recorder(tmp_path, 3, resume=True, fingerprint="def")
    with refused("num-examples-differ", found=3, num_examples=4):
        Recorder(tmp_path, 4, resume=True, fingerprint="abc")
    with Recorder(tmp_path, 3, resume=True, fingerprint="abc") as recorder:
        assert recorder.epoch == 2
        feed(recorder, range(3))
        recorder.end_epoch()
    assert store.recorded_epochs(tmp_path) == [1, 2]


class CountSyncs(TorchDispatchMode):
    """Counts the operations that synchronize the host with a device."""

    names = ("_local_scalar_dense", "nonzero", "item", "is_nonzero", "equal", "masked_select")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0]
        if name in self.names:
            self.seen.append(name)
        return function(*args, **(kwargs or {}))


def test_update_never_synchronizes(tmp_path):
    recorder = Recorder(tmp_path, 8)
    # On a CPU labels are checked immediately.
    recorder._checks_labels_at_once = False
    for num_classes, labels in ((3, torch.zeros(8, dtype=torch.int32)), (1, torch.zeros(8, 1))):
        with CountSyncs() as counted:
            recorder.update(torch.arange(8), torch.randn(8, num_classes), labels)
        assert counted.seen == []
    with CountSyncs() as counted, pytest.raises(ValueError, match="repeated"):
        recorder.end_epoch()
    assert "_local_scalar_dense" in counted.seen


def test_update_works_on_the_meta_device(tmp_path):
    """It has only shapes: an operation that copied to the host or needed a value would raise."""
    recorder = Recorder(tmp_path, 8, device="meta")
    batch = torch.arange(8), torch.randn(8, 300, dtype=torch.bfloat16), torch.zeros(8, dtype=torch.int64)
    recorder.update(*(tensor.to("meta") for tensor in batch))
    recorder.update(*(list(tensor.to("meta")) for tensor in batch))
    with pytest.raises(RuntimeError):
        recorder.end_epoch()


def test_values_are_rounded_to_half_precision_unless_precision_is_float32(tmp_path):
    generator = torch.Generator().manual_seed(0)
    logits, labels = 30 * torch.randn(64, 10, generator=generator), torch.arange(64) % 10
    logits[0, 0] = 1e6
    logits[1, 1] = -1e6
    loss = F.cross_entropy(logits, labels, reduction="none").numpy()
    for precision in ("float16", "float32"):
        with Recorder(tmp_path / precision, 64, precision=precision) as recorder:
            recorder.update(torch.arange(64), logits, labels)
            recorder.end_epoch()
    whole, rounded = (store.read_epoch(tmp_path / name, 1) for name in ("float32", "float16"))
    assert whole.loss == pytest.approx(loss, rel=1e-6, abs=1e-6)
    for name in ("loss", "margin", "el2n"):
        # Values too large for half precision become its largest number, not infinity.
        kept = np.clip(getattr(whole, name), -65504, 65504).astype(np.float16).astype(np.float32)
        assert np.array_equal(getattr(rounded, name), kept)
    assert rounded.margin[0] == 65504


@pytest.mark.parametrize("folder", ["/proc/nowhere", "/etc/hostname/x"])
def test_a_folder_that_cannot_be_written_to_is_refused_at_once(folder):
    with refused("cannot-write-records", folder=f"{folder}/dynamics"):
        Recorder(folder, 3)


@pytest.mark.parametrize("last_epoch", [None, 0, 1])
def test_records_of_another_data_set_are_refused_before_any_is_dropped(tmp_path, last_epoch):
    with Recorder(tmp_path, 3, fingerprint="abc") as recorder:
        for _ in range(3):
            feed(recorder, range(3))
            recorder.end_epoch()
    for changed in ({"fingerprint": "def"}, {"num_examples": 4}):
        with pytest.raises(UserError, match=r"def|num-examples-differ"):
            Recorder(
                **{"path": tmp_path, "fingerprint": "abc", "num_examples": 3} | changed,
                resume=True,
                last_epoch=last_epoch,
            )
    assert store.recorded_epochs(tmp_path) == [1, 2, 3]


def test_a_loss_that_is_not_finite_is_not_recorded(tmp_path):
    recorder = Recorder(tmp_path, 4)
    logits = torch.zeros(4, 3)
    logits[2] = torch.nan
    logits[3, 0] = torch.inf
    recorder.update(torch.arange(4), logits, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"2 with a loss that is negative or not finite \(first: 2, 3\)"):
        recorder.end_epoch()


def test_an_unreadable_example_that_is_recorded_is_named(tmp_path):
    recorder = Recorder(tmp_path, 3, unreadable=np.array([1]))
    feed(recorder, range(3))
    with pytest.raises(ValueError, match=r"1 unreadable but recorded \(first: 1\)$"):
        recorder.end_epoch()


def test_an_epoch_that_is_not_ended_is_not_written_with_a_warning(tmp_path, capfd):
    with Recorder(tmp_path, 3) as recorder:
        feed(recorder, range(3))
        recorder.end_epoch()
        feed(recorder, range(3))
    assert store.recorded_epochs(tmp_path) == [1]
    assert capfd.readouterr().err.startswith("warning: epoch 2 ")
    recorder = Recorder(tmp_path / "b", 3)
    for _ in range(2):
        feed(recorder, range(3))
    with pytest.raises(ValueError, match=r"3 repeated .*end_epoch\(\)"):
        recorder.end_epoch()


def test_a_closed_recorder_raises(tmp_path):
    with Recorder(tmp_path, 3) as recorder:
        feed(recorder, range(3))
        recorder.end_epoch()
    for call in (lambda: feed(recorder, range(3)), recorder.end_epoch):
        with pytest.raises(RuntimeError, match="is closed"):
            call()


def test_resuming_prints_the_epoch(tmp_path, capfd):
    with Recorder(tmp_path, 3, resume=True) as recorder:
        feed(recorder, range(3))
        recorder.end_epoch()
    assert capfd.readouterr().err == ""
    Recorder(tmp_path, 3, resume=True).close()
    assert capfd.readouterr().err.endswith("resuming with epoch 2\n")
    Recorder(tmp_path, 3, resume=True, last_epoch=1).close()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("settings", "left", "message"),
    [
        ({"resume": True, "last_epoch": 1}, [1], "dropped the records of 3 epochs after epoch 1 in "),
        ({"resume": True, "last_epoch": 3}, [1, 2, 3], "dropped the records of 1 epoch after epoch 3 in "),
        ({"overwrite": True}, [], "dropped the records of 4 epochs in "),
        (
            {"overwrite": True, "fingerprint": "other", "num_examples": 7},
            [],
            "dropped the records of 4 epochs",
        ),
        ({"resume": True, "last_epoch": 0, "overwrite": True}, [], "dropped the records of 4 epochs in "),
        ({"resume": True, "overwrite": True}, [1, 2, 3, 4], "resuming with epoch 5"),
    ],
)
def test_dropped_records_are_counted(tmp_path, capfd, settings, left, message):
    with Recorder(tmp_path, 3) as recorder:
        for _ in range(4):
            feed(recorder, range(3))
            recorder.end_epoch()
    recorder = Recorder(**{"path": tmp_path, "num_examples": 3} | settings)
    assert store.recorded_epochs(tmp_path) == left
    assert recorder.epoch == len(left) + 1
    assert message in capfd.readouterr().err


@pytest.mark.parametrize("last_epoch", [-1, 1.0, True, "1"])
def test_last_epoch_is_a_count(tmp_path, last_epoch):
    with pytest.raises(ValueError, match="last_epoch must be"):
        Recorder(tmp_path, 4, resume=True, last_epoch=last_epoch)


@pytest.mark.parametrize("unreadable", [[-1], [4], [1.5], ["a"]])
def test_unreadable_ids_are_ids_of_examples(tmp_path, unreadable):
    with pytest.raises(ValueError, match=r"unreadable must be .* 0\.\.3"):
        Recorder(tmp_path, 4, unreadable=unreadable)


def test_starting_over_needs_overwrite(tmp_path):
    with Recorder(tmp_path, 3) as recorder:
        for _ in range(2):
            feed(recorder, range(3))
            recorder.end_epoch()
    with refused("records-exist", epochs=2):
        Recorder(tmp_path, 3, resume=True, last_epoch=0)
    with refused("records-exist", epochs=2):
        Recorder(tmp_path, 3)
    # With resume, another data set's records are not overwritten.
    with pytest.raises(UserError, match="def"):
        Recorder(tmp_path, 3, "cpu", True, True, last_epoch=0, fingerprint="def")
    assert store.recorded_epochs(tmp_path) == [1, 2]


@pytest.mark.parametrize("shapes", [((3,), (3,), (3, 5)), ((2,), (3, 5), (3,)), ((3,), (3, 5), (3, 5))])
def test_tensors_of_wrong_shapes(tmp_path, shapes):
    batch = [torch.zeros(shape, dtype=torch.int64) for shape in shapes]
    with pytest.raises(ValueError, match=r"expected shapes .*, got \("):
        Recorder(tmp_path, 3).update(*batch)


def test_updates_inside_and_outside_of_inference_mode(tmp_path):
    with torch.inference_mode():
        recorder = Recorder(tmp_path, 6)
        feed(recorder, [0, 1])
    feed(recorder, [2, 3])
    with torch.inference_mode():
        feed(recorder, [4, 5])
        assert recorder.end_epoch().num_examples == 6
    feed(recorder, range(6))
    recorder.end_epoch()
    recorder.close()


def test_other_sizes_of_batch_and_other_numbers_of_classes(tmp_path):
    with Recorder(tmp_path, 12) as recorder:
        first = 0
        for batch, num_classes in ((2, 5), (4, 3), (0, 3), (3, 5), (3, 2)):
            labels = torch.zeros(batch, dtype=torch.int64)
            recorder.update(torch.arange(first, first + batch), torch.zeros(batch, num_classes), labels)
            first += batch
        recorder.end_epoch()
    expected = np.log([5] * 2 + [3] * 4 + [5] * 3 + [2] * 3)
    assert store.read_epoch(tmp_path, 1).loss == pytest.approx(expected, rel=1e-3)


def test_an_unknown_precision(tmp_path):
    with pytest.raises(ValueError, match="float16 or float32, not 'auto'"):
        Recorder(tmp_path, 3, precision="auto")


def test_a_last_epoch_without_resume(tmp_path):
    with pytest.raises(ValueError, match="needs resume=True"):
        Recorder(tmp_path, 3, last_epoch=3)


def test_a_loop_that_resumes_after_an_earlier_epoch_records_the_later_ones_again(tmp_path):
    with Recorder(tmp_path, 3) as recorder:
        for _ in range(3):
            feed(recorder, range(3))
            recorder.end_epoch()
    with Recorder(tmp_path, 3, resume=True, last_epoch=1) as recorder:
        assert recorder.epoch == 2
        assert store.recorded_epochs(tmp_path) == [1]
    with refused("cannot-resume", last=4, missing=2):
        Recorder(tmp_path, 3, resume=True, last_epoch=4)


def test_learned_examples_stay_learned_also_after_a_resume(tmp_path):
    """Five examples of label 0, the last of them unreadable: which are predicted correctly in each epoch."""
    right = [[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]]
    settings = {"num_examples": 5, "unreadable": np.array([4])}

    def record(recorder, epoch):
        logits = torch.tensor(right[epoch - 1]).unsqueeze(1) * torch.tensor([1.0, 0.0])
        # For equal logits the first is predicted, so a wrong prediction needs a larger second logit.
        logits[:, 1] = 0.5
        recorder.update(torch.arange(4), logits, torch.zeros(4, dtype=torch.int64))
        return recorder.end_epoch()

    with Recorder(tmp_path, **settings) as recorder:
        found = [record(recorder, epoch) for epoch in (1, 2, 3, 4)]
    assert [each.accuracy for each in found] == [1 / 4, 1 / 4, 2 / 4, 1 / 4]
    assert [each.learned for each in found] == [1 / 4, 2 / 4, 2 / 4, 3 / 4]
    # Dropping the records of epoch 4 also forgets what it learned.
    with Recorder(tmp_path, resume=True, last_epoch=2, **settings) as recorder:
        assert [record(recorder, epoch).learned for epoch in (3, 4)] == [2 / 4, 3 / 4]
    with Recorder(tmp_path, resume=True, last_epoch=0, overwrite=True, **settings) as recorder:
        assert record(recorder, 4).learned == 1 / 4


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 99))
def test_any_batch_size_and_order_gives_the_same_records(tmp_path_factory, num_examples, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_examples, 5, generator=generator)
    labels = torch.randint(0, 5, (num_examples,), generator=generator)
    order = torch.randperm(num_examples, generator=generator)
    paths = []
    for ids in (order.split(batch), [torch.arange(num_examples)]):
        paths.append(tmp_path_factory.mktemp("run"))
        with Recorder(paths[-1], num_examples) as recorder:
            for some in ids:
                recorder.update(some, logits[some], labels[some])
            recorder.end_epoch()
    one, other = (store.read_epoch(path, 1) for path in paths)
    assert np.array_equal(one.prediction, logits.argmax(1))
    for name in ("given_label", "prediction", "margin"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    for name in ("loss", "el2n"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_update_never_synchronizes_with_a_gpu(tmp_path):
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
def test_a_recorder_on_the_host_waits_for_copies_from_a_gpu(tmp_path):
    recorder = Recorder(tmp_path, 4096, precision="float32")
    logits, labels = (
        torch.randn(4096, 100, device="cuda"),
        torch.zeros(4096, dtype=torch.int64, device="cuda"),
    )
    recorder.update(torch.arange(4096, device="cuda"), logits, labels)
    recorder.end_epoch()
    recorder.close()
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none").cpu()
    assert np.allclose(store.read_epoch(tmp_path, 1).loss, expected, atol=1e-4)

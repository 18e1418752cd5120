"""What Recorder.update() accepts, and what it rejects."""

import math
import warnings

import numpy as np
import pytest
import torch

from hardness import Recorder
from hardness.dynamics import store

LOGITS = torch.tensor([[2.0, 0, 0], [0, 0, 1], [0, 3, 0], [0, 0, 4]])
LABELS = [0, 1, 1, 2]


def recorded(folder, ids, logits, labels) -> store.Records:
    with Recorder(folder, 4) as recorder:
        recorder.update(ids, logits, labels)
        recorder.end_epoch()
    return store.read_epoch(folder, 1)


@pytest.fixture
def expected(tmp_path):
    return recorded(tmp_path / "expected", torch.arange(4), LOGITS, torch.tensor(LABELS))


def assert_same(one: store.Records, other: store.Records):
    for name in ("given_label", "prediction", "loss", "margin", "el2n"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(
    "convert",
    [
        *(lambda values, dtype=f"{sign}int{bits}": torch.tensor(values, dtype=getattr(torch, dtype))
          for sign in ("", "u") for bits in (8, 16, 32, 64)),
        list,
        tuple,
        np.array,
        lambda values: [torch.tensor(value) for value in values],
        lambda values: read_only(np.array(values)),
        lambda values: np.array(values[::-1])[::-1],
        lambda values: np.array(values, ">i4"),
        lambda values: np.array(values, np.uint16),
    ],
)  # fmt: skip
def test_ids_and_labels_of_any_integer_dtype(tmp_path, expected, convert):
    assert_same(recorded(tmp_path, convert([0, 1, 2, 3]), LOGITS, convert(LABELS)), expected)


@pytest.mark.parametrize(
    "convert",
    [
        torch.Tensor.numpy,
        torch.Tensor.tolist,
        torch.Tensor.int,
        lambda logits: list(logits.clone().requires_grad_()),
        torch.Tensor.double,
        torch.Tensor.bfloat16,
        lambda logits: logits.clone().requires_grad_(),
    ],
)
def test_logits_of_any_real_kind(tmp_path, expected, convert):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(recorded(tmp_path, range(4), convert(LOGITS), LABELS), expected)


def test_boolean_logits(tmp_path, expected):
    found = recorded(tmp_path, np.arange(4), LOGITS > 0, LABELS)
    assert_same(found, recorded(tmp_path / "float", np.arange(4), (LOGITS > 0).float(), LABELS))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_floats_that_are_integers_as_labels(tmp_path, expected, dtype):
    assert_same(recorded(tmp_path, torch.arange(4), LOGITS, torch.tensor(LABELS, dtype=dtype)), expected)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool])
@pytest.mark.parametrize("is_column", [False, True])
def test_one_column_of_logits_is_binary(tmp_path, dtype, is_column):
    z = torch.tensor([2.0, -1, 0.5, -3])
    labels = torch.tensor([1, 1, 0, 0])
    given = labels.to(dtype)
    found = recorded(tmp_path, torch.arange(4), z[:, None], given[:, None] if is_column else given)
    assert found.given_label.tolist() == labels.tolist()
    assert found.prediction.tolist() == [1, 0, 1, 0]
    bce = torch.nn.functional.binary_cross_entropy_with_logits(z, labels.float(), reduction="none")
    assert found.loss == pytest.approx(bce.numpy(), rel=1e-3)
    assert found.margin == pytest.approx([2, -1, -0.5, 3])
    wrong = 1 - np.exp(-bce.numpy())
    assert found.el2n == pytest.approx(math.sqrt(2) * wrong, rel=1e-3)


IDS = torch.arange(4)


@pytest.mark.parametrize(
    ("ids", "logits", "labels", "message"),
    [
        (IDS.float(), LOGITS, LABELS, "example_ids must be integers, not torch.float32"),
        (IDS > 1, LOGITS, LABELS, "example_ids must be integers, not torch.bool"),
        (["a", "b", "c", "d"], LOGITS, LABELS, "example_ids must be a tensor, an array or a list"),
        ([0, 1, 2, None], LOGITS, LABELS, "example_ids must be a tensor"),
        (IDS, LOGITS.to(torch.complex64), LABELS, "must be real numbers, not torch.complex64"),
        (IDS, LOGITS, torch.tensor(LABELS).to(torch.complex64), "torch.int64|torch.complex64"),
        (IDS, [[1.0], [1.0, 2.0], [1.0], [1.0]], LABELS, "logits must be a tensor"),
    ],
)
def test_wrong_dtypes(tmp_path, ids, logits, labels, message):
    with pytest.raises(TypeError, match=message):
        Recorder(tmp_path, 4).update(ids, logits, labels)


@pytest.mark.parametrize("num_classes", [0, (1 << 24) + 1])
def test_more_classes_than_a_float32_label_can_name(tmp_path, num_classes):
    with pytest.raises(ValueError, match="1 to 16,777,216 columns"):
        Recorder(tmp_path, 4).update(IDS, torch.zeros(1, 1).expand(4, num_classes), LABELS)


def test_logits_without_a_dimension_of_classes(tmp_path):
    with pytest.raises(ValueError, match=r"got \(4,\), \(4,\), \(4,\)\. .*unsqueeze\(1\)"):
        Recorder(tmp_path, 4).update(IDS, LOGITS[:, 0], LABELS)


def test_an_empty_batch_of_lists(tmp_path):
    Recorder(tmp_path, 4).update([], np.zeros((0, 3)), [])


WRONG = [
    (torch.tensor([0, 1, -100, 2]), LOGITS, "example 2 has label -100, but there are 3 ", "ignore_index"),
    (torch.tensor([1, 2, 3, 3]), LOGITS, "example 2 has label 3, but there are 3 classes", "start at 1"),
    (torch.tensor([0, 1, 1, 7]), LOGITS, "example 3 has label 7,", "class indices"),
    (torch.tensor([0, -1, 1, 1]), LOGITS, "example 1 has label -1,", "class indices"),
    (torch.tensor([0, 0.5, 1, 1]), LOGITS, "example 1 has label 0.5,", "not probabilities"),
    (torch.tensor([0, 1, 1, torch.nan]), LOGITS, "example 3 has label nan,", "not probabilities"),
    (torch.tensor([0, 1, 1, torch.inf]), LOGITS, "example 3 has label inf,", "not probabilities"),
    (torch.tensor([0, 255, 1, 1], dtype=torch.uint8), LOGITS, "example 1 has label 255,", "class indices"),
    (torch.tensor([0, 1, 2, 1]), LOGITS[:, :1], "example 2 has label 2, but there are 2 ", "start at 1"),
    # Half precision has no 4095, but 4096.
    (torch.tensor([0, 1, 1, 4096]).half(), torch.zeros(4, 4096), "example 3 has label 4096,", "start at 1"),
]  # fmt: skip


@pytest.mark.parametrize(("labels", "logits", "message", "hint"), WRONG)
def test_a_label_that_is_not_a_class_raises_immediately_on_a_cpu(tmp_path, labels, logits, message, hint):
    recorder = Recorder(tmp_path, 4)
    with pytest.raises(ValueError, match=hint) as caught:
        recorder.update(IDS, logits, labels)
    assert message in str(caught.value)
    # Nothing of that batch is recorded: the epoch can continue.
    recorder.update(IDS, LOGITS, LABELS)
    assert recorder.end_epoch().num_examples == 4
    recorder.close()


@pytest.mark.parametrize(("labels", "logits", "message", "hint"), WRONG)
def test_a_label_that_is_not_a_class_raises_at_the_end_on_a_gpu(tmp_path, labels, logits, message, hint):
    recorder = Recorder(tmp_path, 4)
    recorder._checks_labels_at_once = False
    recorder.update(IDS, logits, labels)
    with pytest.raises(ValueError, match=hint) as caught:
        recorder.end_epoch()
    assert message in str(caught.value)
    assert "loss" not in str(caught.value)
    assert not list(tmp_path.rglob("*.parquet"))


def test_labels_checked_at_the_end_are_recorded_as_they_are(tmp_path, expected):
    with Recorder(tmp_path, 4) as recorder:
        recorder._checks_labels_at_once = False
        recorder.update(IDS, LOGITS, torch.tensor(LABELS))
        recorder.end_epoch()
    assert_same(store.read_epoch(tmp_path, 1), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_label_that_is_not_a_class_does_not_break_the_gpu(tmp_path):
    recorder = Recorder(tmp_path, 4, "cuda")
    recorder.update(IDS, LOGITS.cuda(), torch.tensor([0, 1, -100, torch.nan]).cuda())
    with pytest.raises(ValueError, match="2 with a label that is not a class"):
        recorder.end_epoch()

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hardness import datasets
from hardness.config import Data
from hardness.datasets.examples import DataSet
from hardness.datasets.images import ImageAdapter, in_memory
from tests.conftest import refused


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return datasets.load(Data(), model="mlp")


def test_digits_have_a_fixed_stratified_split(digits):
    assert (len(digits.train), len(digits.validation)) == (1437, 360)
    assert digits.adapter.input_shape == (1, 8, 8)
    assert digits.num_classes == 10
    counts = np.bincount(digits.validation.clean_labels)
    assert counts.min() >= 34
    assert counts.max() <= 38
    assert digits.fingerprint == datasets.load(Data(), model="mlp").fingerprint


def test_an_example_is_image_label_id(digits):
    image, label, example_id = digits.train[7]
    assert image.dtype == torch.uint8
    assert image.shape == (1, 8, 8)
    assert label == digits.train.given_labels[7]
    assert example_id == 7


def test_a_pytorch_data_loader_reads_it(digits):
    images, labels, ids = next(iter(DataLoader(digits.train, batch_size=5, collate_fn=lambda batch: batch)))
    assert images.shape == (5, 1, 8, 8)
    assert torch.equal(labels, digits.train.given_labels[:5])
    assert ids.tolist() == [0, 1, 2, 3, 4]


def test_other_given_labels_do_not_change_the_clean_ones(digits):
    noisy = digits.train.with_labels(torch.zeros(1437, dtype=torch.int64))
    assert noisy[3][1] == 0
    assert torch.equal(noisy.clean_labels, digits.train.clean_labels)


def make(class_names, prefix="train") -> DataSet:
    images = in_memory(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 0]), prefix)
    return DataSet(images, images, class_names, ImageAdapter((1, 4, 4), [0.5], [1.0]))


def test_the_fingerprint_is_of_keys_and_class_names():
    fingerprints = {
        make(["a", "b"]).fingerprint,
        make(["a", "c"]).fingerprint,
        make(["a", "b"], "x").fingerprint,
    }
    assert len(fingerprints) == 3
    assert make(["a", "b"]).fingerprint == make(["a", "b"]).fingerprint


def test_one_class_is_refused():
    with refused("single-class", name="only"):
        make(["only"])

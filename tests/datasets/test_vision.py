import struct

import numpy as np
import pytest
import torchvision

from hardness import datasets
from hardness.config import Data
from tests.conftest import refused


@pytest.fixture
def mnist(tmp_path):
    """MNIST's four files, with a few made-up digits."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for prefix, count in (("train", 30), ("t10k", 10)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 0x803, count, 28, 28) + images.tobytes()
        )
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels.tobytes())
    return tmp_path


def test_mnist(mnist):
    data = datasets.load(Data(data=f"torchvision:MNIST:{mnist}"), model="mlp")
    assert (len(data.train), len(data.validation)) == (30, 10)
    assert data.adapter.input_shape == (1, 28, 28)
    assert data.num_classes == 10
    assert data.train[3][1] == 3


def test_missing_files_are_not_downloaded(tmp_path):
    with refused("unreadable-data-set", name="MNIST", path=str(tmp_path)):
        datasets.load(Data(data=f"torchvision:MNIST:{tmp_path}"), model="mlp")


def test_channels_of_cifar_come_first(tmp_path, monkeypatch):
    class Cifar:
        classes = ("a", "b")

        def __init__(self, root, train, download):
            self.data = np.zeros((4, 32, 32, 3), np.uint8)
            self.data[..., 2] = 9
            self.targets = [0, 1, 0, 1]

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Cifar)
    data = datasets.load(Data(data=f"torchvision:CIFAR10:{tmp_path}"), model="mlp")
    assert data.adapter.input_shape == (3, 32, 32)
    assert (data.train[0][0][2] == 9).all()


def test_broken_files_are_refused(mnist):
    (mnist / "MNIST/raw/train-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, 30, 28, 28) + b"x")
    with refused("unreadable-data-set", name="MNIST", path=str(mnist)):
        datasets.load(Data(data=f"torchvision:MNIST:{mnist}"), model="mlp")

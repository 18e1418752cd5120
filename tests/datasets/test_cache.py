"""Where --cache stores the pixels, and the line that says so."""

import pytest
import torch

from hardness import datasets
from hardness.config import Data
from hardness.datasets import cache, samples
from hardness.datasets.decoding import ImageFiles
from hardness.datasets.images import ImageAdapter, in_memory
from hardness.datasets.pixels import DevicePixels, HostPixels
from hardness.errors import UserError
from hardness.stages.pack import Pack, pack
from tests.conftest import refused


@pytest.mark.parametrize(
    ("where", "kind", "said"),
    [
        ("auto", HostPixels, "in memory (15.6 kB)"),
        ("host", HostPixels, "in memory (15.6 kB)"),
        ("none", ImageFiles, "decoded every epoch"),
    ],
)
def test_image_files(image_folder, where, kind, said, capsys):
    data = datasets.load(Data(data=f"imagefolder:{image_folder}", cache=where), device="cpu")
    assert isinstance(data.train.inputs, kind)
    assert capsys.readouterr().out.rstrip().endswith(said)


@pytest.mark.parametrize(
    ("where", "said"), [("auto", "mapped files"), ("none", "mapped files"), ("host", "in memory")]
)
def test_packs(image_folder, where, said, capsys):
    folder = pack(Pack(data=f"imagefolder:{image_folder}", workers=0))
    capsys.readouterr()
    data = datasets.load(Data(data=f"packed:{folder}", cache=where), device="cpu")
    assert capsys.readouterr().out.endswith(f"{said} (15.6 kB)\n")
    assert data.train.inputs.shards[0].flags.writeable == (where == "host")


def test_cache_device_needs_a_gpu():
    with refused("cache-needs-gpu", device="cpu"):
        datasets.load(Data(cache="device"), device="cpu")


@pytest.fixture
def gpu(monkeypatch):
    """A device named like a GPU with 400 bytes free, whose tensors are on the CPU."""

    def memory(device):
        return 400, 1000

    monkeypatch.setattr(torch.cuda, "mem_get_info", memory)
    copy = cache.on_device
    monkeypatch.setattr(cache, "on_device", lambda pixels, device: copy(pixels, torch.device("cpu")))
    return torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("num_images", "where", "kind", "said"),
    [
        (5, "auto", DevicePixels, "on cuda:0 (200 bytes)"),
        (6, "auto", HostPixels, "in memory (240 bytes)"),
        (10, "device", DevicePixels, "on cuda:0 (400 bytes)"),
        (5, "host", HostPixels, "in memory (200 bytes)"),
    ],
)
def test_pixels_that_fit_are_copied_to_the_gpu(gpu, num_images, where, kind, said, capsys):
    pixels = torch.arange(num_images * 20, dtype=torch.uint8).view(num_images, 1, 4, 5)
    part = in_memory(pixels, torch.arange(num_images), "train")
    data = datasets.DataSet(part, part, ["a", "b"], ImageAdapter((1, 4, 5), [0.5], [1.0]))
    placed = cache.place(data, where, gpu)
    assert capsys.readouterr().out.endswith(f"{said}\n")
    assert isinstance(placed.train.inputs, kind)
    assert torch.equal(placed.train.inputs[[3, 1]], pixels[[3, 1]])


def test_pixels_that_do_not_fit_on_the_gpu_are_rejected(gpu):
    part = in_memory(torch.zeros(11, 1, 4, 5, dtype=torch.uint8), torch.arange(11), "train")
    data = datasets.DataSet(part, part, ["a", "b"], ImageAdapter((1, 4, 5), [0.5], [1.0]))
    values = {"needed": "440 bytes", "free": "400 bytes", "device": "cuda:0"}
    with refused("not-enough-gpu-memory", **values):
        cache.place(data, "device", gpu)


def test_all_shards_are_copied():
    pixels = torch.arange(7 * 4, dtype=torch.uint8).view(7, 2, 2, 1)
    shards = [pixels[:3].numpy(), pixels[3:6].numpy(), pixels[6:].numpy()]
    kept = cache.on_device(HostPixels(shards, 3), torch.device("cpu"))
    assert torch.equal(kept.pixels, pixels)


def test_pixels_that_do_not_fit_in_memory_are_rejected_before_reading(image_folder, monkeypatch):
    monkeypatch.setattr(samples, "host_memory", lambda ranks: 15_000)
    with pytest.raises(UserError, match=r"15\.6 kB.*15\.0 kB"):
        datasets.load(Data(data=f"imagefolder:{image_folder}", cache="host"), device="cpu")

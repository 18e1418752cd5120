"""Where --cache puts the pixels, and that it says so."""

import pytest
import torch

from hardness import datasets
from hardness.config import Data, Pack
from hardness.datasets import cache, samples
from hardness.datasets.decoding import ImageFiles
from hardness.datasets.pixels import DevicePixels, HostPixels
from hardness.errors import UserError
from hardness.stages.pack import pack


@pytest.mark.parametrize(
    ("where", "kind", "told"),
    [
        ("auto", HostPixels, "in memory (15.6 kB)"),
        ("host", HostPixels, "in memory (15.6 kB)"),
        ("none", ImageFiles, "decoded every epoch"),
    ],
)
def test_files(image_folder, where, kind, told, capsys):
    data = datasets.load(Data(data=f"imagefolder:{image_folder}", cache=where), device="cpu")
    assert isinstance(data.train.images, kind)
    assert capsys.readouterr().out.splitlines()[1:] == [f"images: short side to 12, centre 12 x 12, {told}"]


@pytest.mark.parametrize(
    ("where", "told"), [("auto", "mapped files"), ("none", "mapped files"), ("host", "in memory")]
)
def test_packed_ones(image_folder, where, told, capsys):
    folder = pack(Pack(data=f"imagefolder:{image_folder}", workers=0))
    capsys.readouterr()
    data = datasets.load(Data(data=f"packed:{folder}", cache=where), device="cpu")
    assert capsys.readouterr().out == f"images: short side to 12, centre 12 x 12, {told} (15.6 kB)\n"
    assert data.train.images.shards[0].flags.writeable == (where == "host")


def test_no_gpu_for_device():
    with pytest.raises(UserError, match=r"a GPU for --cache device; found cpu"):
        datasets.load(Data(cache="device"), device="cpu")


@pytest.fixture
def gpu(monkeypatch):
    """A device that is named like a GPU, with 400 bytes free, whose tensors lie here."""

    def memory(device):
        return 400, 1000

    monkeypatch.setattr(torch.cuda, "mem_get_info", memory)
    copy = cache.on_device
    monkeypatch.setattr(cache, "on_device", lambda pixels, device: copy(pixels, torch.device("cpu")))
    return torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("num_images", "where", "kind", "told"),
    [
        (5, "auto", DevicePixels, "on cuda:0 (200 bytes)"),
        (6, "auto", HostPixels, "in memory (240 bytes)"),
        (10, "device", DevicePixels, "on cuda:0 (400 bytes)"),
        (5, "host", HostPixels, "in memory (200 bytes)"),
    ],
)
def test_a_gpu_takes_what_fits(gpu, num_images, where, kind, told, capsys):
    pixels = torch.arange(num_images * 20, dtype=torch.uint8).view(num_images, 1, 4, 5)
    part = datasets.base.in_memory(pixels, torch.arange(num_images), "train")
    data = datasets.DataSet(part, part, ["a", "b"], (1, 4, 5), [0.5], [1.0])
    placed = cache.place(data, where, gpu)
    assert capsys.readouterr().out == f"images: as they are, {told}\n"
    assert isinstance(placed.train.images, kind)
    assert torch.equal(placed.train.images[[3, 1]], pixels[[3, 1]])


def test_what_does_not_fit_is_refused(gpu):
    part = datasets.base.in_memory(torch.zeros(11, 1, 4, 5, dtype=torch.uint8), torch.arange(11), "train")
    data = datasets.DataSet(part, part, ["a", "b"], (1, 4, 5), [0.5], [1.0])
    with pytest.raises(UserError, match=r"440 bytes on cuda:0 for --cache device; found 400 bytes free"):
        cache.place(data, "device", gpu)


def test_shards_are_copied_one_after_another():
    pixels = torch.arange(7 * 4, dtype=torch.uint8).view(7, 2, 2, 1)
    shards = [pixels[:3].numpy(), pixels[3:6].numpy(), pixels[6:].numpy()]
    kept = cache.on_device(HostPixels(shards, 3), torch.device("cpu"))
    assert torch.equal(kept.pixels, pixels)


def test_what_does_not_fit_in_memory_is_refused_before_it_is_read(image_folder, monkeypatch):
    monkeypatch.setattr(samples, "host_memory", lambda ranks: 15_000)
    with pytest.raises(UserError, match=r"15\.6 kB of memory for --cache host; found 15\.0 kB"):
        datasets.load(Data(data=f"imagefolder:{image_folder}", cache="host"), device="cpu")

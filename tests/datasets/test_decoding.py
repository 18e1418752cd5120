"""Both decoders give Pillow's pixels."""

import io
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.v2 import functional as F

from hardness.datasets import decoding
from hardness.datasets.decoding import read_image
from hardness.datasets.source import File
from tests.conftest import refused


def save(path, mode="RGB", size=(40, 30), **options) -> File:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize(size, Image.BICUBIC).convert(mode)
    image.save(path, **options)
    return File(path)


@pytest.fixture(params=["libjpeg", "Pillow"])
def decoder(request, monkeypatch):
    if request.param == "Pillow":
        monkeypatch.setattr(decoding, "decode_jpeg", lambda data: None)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_a_jpeg_is_upright_rgb(tmp_path, decoder, mode, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    file = save(tmp_path / "x.jpg", mode, (32, 32), exif=exif, quality=90)
    with Image.open(file) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    found = read_image(file, 32, 32)
    assert torch.equal(found.permute(1, 2, 0), torch.from_numpy(expected.copy()))


def test_both_decoders_give_the_same_pixels_also_resized(tmp_path, monkeypatch):
    file = save(tmp_path / "x.jpg", size=(400, 300))
    one = read_image(file, 256, 224)
    monkeypatch.setattr(decoding, "decode_jpeg", lambda data: None)
    assert torch.equal(one, read_image(file, 256, 224))
    with Image.open(file) as image:
        pillow = F.pil_to_tensor(F.center_crop(F.resize(image, [256], antialias=True), [224, 224]))
    # Pillow's own resizing sometimes rounds differently.
    assert (one.int() - pillow.int()).abs().max() <= 1


@pytest.mark.parametrize("kept", [0, 4, 300, -20])
def test_a_truncated_jpeg_is_rejected(tmp_path, decoder, kept):
    file = save(tmp_path / "x.jpg")
    data = file.read()
    (tmp_path / "x.jpg").write_bytes(data[:kept])
    with refused("unreadable-image", path=str(file)):
        read_image(file, 30, 30)


def test_a_decompression_bomb_is_rejected(tmp_path):
    buffer = io.BytesIO()
    Image.new("L", (16, 16)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    # Height and width in the frame header.
    header = data.index(b"\xff\xc0")
    data[header + 5 : header + 9] = b"\xff\xdc\xff\xdc"
    (tmp_path / "x.jpg").write_bytes(data)
    with refused("unreadable-image", path=str(tmp_path / "x.jpg")) as caught:
        read_image(File(tmp_path / "x.jpg"), 16, 16)
    assert "decompression bomb" in caught.value.values["reason"]


RED, BLUE = (255, 0, 0), (0, 0, 255)


def transparent(path, mode):
    """A red image whose left half is transparent."""
    image = Image.new("RGBA", (8, 4), (*RED, 255))
    image.paste((*RED, 0), (0, 0, 4, 4))
    if mode == "LA":
        image = Image.merge("LA", (Image.new("L", (8, 4), 7), image.getchannel("A")))
    if mode == "P":
        image = Image.new("P", (8, 4), 1)
        image.putpalette([*RED, *RED])
        image.paste(0, (0, 0, 4, 4))
        image.info["transparency"] = 0
    image.save(path)
    return File(path)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("name", ["x.png", "x.webp", "x.gif"])
def test_transparent_parts_show_the_background(tmp_path, mode, name):
    if name != "x.png" and mode != ("P" if name == "x.gif" else "RGBA"):
        return
    file = transparent(tmp_path / name, mode)
    for background in (decoding.WHITE, BLUE):
        pixels = decoding.read_picture(file, background).permute(1, 2, 0)
        assert pixels[:, :4].reshape(-1, 3).unique(dim=0).tolist() == [list(background)]
        assert pixels[0, 6].tolist() != list(background)


def test_half_transparent_pixels_are_blended(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 51)).save(tmp_path / "x.png")
    assert decoding.read_picture(File(tmp_path / "x.png")).unique().tolist() == [204]


def test_one_color_may_be_transparent(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:2] = RED
    Image.fromarray(pixels).save(tmp_path / "x.png", transparency=RED)
    assert decoding.read_picture(File(tmp_path / "x.png"))[0, :, 0].tolist() == [255, 255, 0, 0]


@pytest.mark.parametrize("size", [(40_000, 1), (1, 40_000), (3, 9_000), (2_000, 40)])
def test_a_very_long_image_takes_little_memory(tmp_path, size):
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[size[1] // 2 :, size[0] // 2 :] = 255
    Image.fromarray(pixels).save(tmp_path / "x.png")
    allocated = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, arguments=(), options=None):
            result = operation(*arguments, **(options or {}))
            if isinstance(result, torch.Tensor):
                allocated.append(result.nbytes)
            return result

    with Watch():
        found = read_image(File(tmp_path / "x.png"), 256, 224)
    # Intermediate floats, if the CPU has no kernel for bytes, and a few outputs.
    assert max(allocated) <= 4 * (pixels.nbytes + 4 * found.nbytes)
    # The center did not move.
    assert abs(found.float().mean().item() - pixels.mean()) < 5


def test_any_exception_of_a_decoder_names_the_image(tmp_path, monkeypatch):
    file = save(tmp_path / "x.png")
    no_memory = (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    for module, name, errors in (
        (decoding.Image, "open", (*no_memory, RecursionError("deep"), KeyError("tag"), IndexError())),
        (decoding.F, "resize", no_memory),
    ):
        for error in errors:
            monkeypatch.setattr(module, name, Mock(side_effect=error))
            with refused("unreadable-image", path=str(file)) as caught:
                read_image(file, 10, 10)
            assert caught.value.values["reason"]
        monkeypatch.undo()

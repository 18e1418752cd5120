"""Pixels are Pillow's, whichever decoder makes them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional as F

from hardness.datasets import decoding
from hardness.datasets.decoding import File, read_image
from hardness.errors import UserError


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
    # Pillow's own resizing rounds otherwise now and then.
    assert (one.int() - pillow.int()).abs().max() <= 1


@pytest.mark.parametrize("kept", [0, 4, 300, -20])
def test_a_jpeg_that_is_cut_off_is_refused(tmp_path, decoder, kept):
    file = save(tmp_path / "x.jpg")
    data = file.read()
    (tmp_path / "x.jpg").write_bytes(data[:kept])
    with pytest.raises(UserError, match=r"a readable image; found .*x\.jpg"):
        read_image(file, 30, 30)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path):
    buffer = io.BytesIO()
    Image.new("L", (16, 16)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    # Height and width, in the frame's header.
    header = data.index(b"\xff\xc0")
    data[header + 5 : header + 9] = b"\xff\xdc\xff\xdc"
    (tmp_path / "x.jpg").write_bytes(data)
    with pytest.raises(UserError, match="decompression bomb"):
        read_image(File(tmp_path / "x.jpg"), 16, 16)

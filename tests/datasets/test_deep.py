"""Images of more than 8 bits are scaled by one range for the whole data set."""

import json
import re
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from hardness import datasets
from hardness.config import Data
from hardness.datasets import decoding
from hardness.datasets.decoding import read_picture, value_range
from hardness.datasets.source import File
from hardness.stages.pack import Pack, pack
from tests.conftest import refused

RAMP = np.tile(np.arange(32), (4, 1))
EXPECTED = np.rint(RAMP * 255 / 31)


def read(path, *settings):
    return read_picture(File(path), *settings).permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("x.png", RAMP.astype(np.uint16)),
        ("x.tif", (100 * RAMP).astype(np.uint16)),
        ("x.tif", RAMP.astype(np.int32)),
        ("x.tif", RAMP.astype(np.float32) / 31),
        ("x.pgm", RAMP.astype(np.uint16)),
    ],
)
def test_gray_values_of_one_file(tmp_path, name, values):
    Image.fromarray(values).save(tmp_path / name)
    assert np.array_equal(read(tmp_path / name), np.repeat(EXPECTED[..., None], 3, 2))


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.ppm"])
def test_color_values_of_one_file(tmp_path, name):
    values = np.stack([RAMP, RAMP[:, ::-1], 0 * RAMP], 2).astype(np.uint16)
    # OpenCV orders colors as blue, green, red.
    cv2.imwrite(str(tmp_path / name), values[..., ::-1])
    expected = np.stack([EXPECTED, EXPECTED[:, ::-1], 0 * EXPECTED], 2)
    assert np.array_equal(read(tmp_path / name), expected)
    assert value_range(File(tmp_path / name)) == (0, 31)


def test_unsigned_32_bits(tmp_path):
    values = (RAMP * (2**32 // 32)).astype(np.uint32)
    Image.fromarray(values.view(np.int32)).save(tmp_path / "x.tif")
    # Pillow marks them as signed.
    data, tag = (tmp_path / "x.tif").read_bytes(), struct.Struct("<HHIH")
    (tmp_path / "x.tif").write_bytes(data.replace(tag.pack(339, 3, 1, 2), tag.pack(339, 3, 1, 1)))
    assert np.array_equal(read(tmp_path / "x.tif")[..., 0], EXPECTED)


def test_the_range_of_negative_values_starts_at_the_minimum(tmp_path):
    Image.fromarray((RAMP - 31).astype(np.float32)).save(tmp_path / "x.tif")
    assert np.array_equal(read(tmp_path / "x.tif")[..., 0], EXPECTED)


def test_a_given_range_clips(tmp_path):
    Image.fromarray(RAMP.astype(np.uint16)).save(tmp_path / "x.png")
    found = read(tmp_path / "x.png", decoding.WHITE, (10, 20))[0, :, 0]
    assert found[:11].tolist() == [0] * 11
    assert found[15] == 128
    assert found[20:].min() == 255


def test_transparent_parts_show_the_background(tmp_path):
    values = np.stack([RAMP, RAMP, RAMP, np.where(RAMP < 16, 0, 65535 // 31)], 2).astype(np.uint16)
    values[..., 3] = np.where(RAMP < 16, 0, 65535)
    cv2.imwrite(str(tmp_path / "x.png"), values)
    found = read(tmp_path / "x.png", (9, 9, 9), (0, 31))
    assert (found[:, :16] == 9).all()
    assert np.array_equal(found[:, 16:, 0], EXPECTED[:, 16:])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_unreadable(tmp_path, bad):
    values = RAMP.astype(np.float32)
    values[1, 1] = bad
    Image.fromarray(values).save(tmp_path / "x.tif")
    with refused("unreadable-image", path=str(tmp_path / "x.tif"), reason="NaN or infinite values"):
        read(tmp_path / "x.tif")


def test_images_of_8_bits_have_no_range(tmp_path):
    for name in ("x.png", "x.tif", "x.ppm", "x.jpg", "x.gif"):
        Image.fromarray(RAMP.astype(np.uint8)).convert("RGB").save(tmp_path / name)
        assert value_range(File(tmp_path / name)) is None


@pytest.fixture
def scans(tmp_path):
    """Two classes, bright and dark, of 12 bits in 16; validation images have a wider range."""
    generator = np.random.default_rng(0)
    for part, most in (("train", 4095), ("val", 5000)):
        for name, share in (("dark", 0.25), ("light", 1.0)):
            for number in range(4):
                values = (generator.random((8, 8)) * share * most).astype(np.uint16)
                values[0, 0] = share * most
                path = tmp_path / "scans" / part / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(path)
    return tmp_path / "scans"


def load(root, **settings):
    return datasets.load(Data(data=f"imagefolder:{root}", **settings))


@pytest.mark.parametrize("cache", ["host", "none"])
def test_one_range_for_the_data_set(scans, cache, capsys):
    data = load(scans, cache=cache)
    assert data.adapter.pixel_range == (0, 4095)
    assert data.describe()["pixel_range"] == [0, 4095]
    assert re.search(r"8 training images .* 0 to 4095 ", capsys.readouterr().out)
    largest = data.train.inputs[range(8)].amax((1, 2, 3))
    assert largest.tolist() == [64] * 4 + [255] * 4
    assert data.validation.inputs[range(8)].amax((1, 2, 3)).tolist()[4:] == [255] * 4


def test_a_given_range_is_used(scans):
    data = load(scans, pixel_range=(0, 8190))
    assert data.adapter.pixel_range == (0, 8190)
    assert data.train.inputs[[7]].max() == 128


def test_a_pack_keeps_the_range(scans, tmp_path):
    folder = pack(Pack(data=f"imagefolder:{scans}", out=tmp_path / "p", workers=0))
    assert json.loads((folder / "pack.json").read_text())["pixel_range"] == [0, 4095]
    found = datasets.load(Data(data=f"packed:{folder}"))
    assert found.adapter.pixel_range == [0, 4095]
    assert (found.train.inputs[range(8)] == load(scans).train.inputs[range(8)]).all()
    with refused("pack-of-other-data", path=str(folder), what="image transform"):
        pack(Pack(data=f"imagefolder:{scans}", out=tmp_path / "p", workers=0, pixel_range=(0, 100)))


def test_images_that_become_one_color_are_counted(scans, tmp_path, capsys):
    load(scans, pixel_range=(0, 1e9))
    warning = capsys.readouterr().err
    assert re.search(r"warning: .*one color.*: 8 \(the first: .*train/dark/0\.png\)", warning)
    load(scans)
    assert "one color" not in capsys.readouterr().err
    pack(Pack(data=f"imagefolder:{scans}", out=tmp_path / "p", workers=2, pixel_range=(0, 1e9)))
    assert re.search(r"warning: .*one color.*: 8 \(", capsys.readouterr().err)


def test_a_16_bit_image_named_jpg_among_8_bit_images_is_rejected(scans):
    (scans / "train/dark/0.png").rename(scans / "train/dark/0.jpg")
    for path in scans.rglob("*.png"):
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(path)
    with refused("unreadable-image", path=str(scans / "train/dark/0.jpg")) as caught:
        load(scans)
    assert "--pixel-range" in caught.value.values["reason"]
    assert load(scans, pixel_range=(0, 1024)).train.inputs[[0]].max() == 255


def test_a_tiff_is_rotated_once(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for dtype in (np.uint8, np.uint16):
        Image.fromarray(RAMP.astype(dtype)).save(tmp_path / "x.tif", exif=exif)
        found = read_picture(File(tmp_path / "x.tif"))
        assert found.shape == (3, 32, 4)
        assert found[0, 0, 0] < found[0, -1, 0]


def test_zero_may_be_white(tmp_path):
    Image.fromarray(RAMP.astype(np.uint16)).save(tmp_path / "x.tif", tiffinfo={262: 0})
    data, tag = (tmp_path / "x.tif").read_bytes(), struct.Struct("<HHIH")
    (tmp_path / "x.tif").write_bytes(data.replace(tag.pack(262, 3, 1, 1), tag.pack(262, 3, 1, 0)))
    assert np.array_equal(read(tmp_path / "x.tif")[..., 0], 255 - EXPECTED)


def write_tiff(path, values, extra) -> None:
    """Little-endian, uncompressed uint16 (H, W, 4); ``extra`` is the meaning of the fourth band."""
    height, width, bands = values.shape
    tags = [(256, width), (257, height), (258, None), (259, 1), (262, 2), (273, None), (277, bands)]
    tags += [(278, height), (279, values.nbytes), (284, 1), (338, extra)]
    bits, pixels = 8 + 2 + 12 * len(tags) + 4, 8 + 2 + 12 * len(tags) + 4 + 2 * bands
    entries = b"".join(
        struct.pack("<HHIHH", tag, 3, 1, value, 0)
        if value is not None
        else struct.pack("<HHII", tag, *((3, bands, bits) if tag == 258 else (4, 1, pixels)))
        for tag, value in tags
    )
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    path.write_bytes(head + entries + bytes(4) + struct.pack(f"<{bands}H", *[16] * bands) + values.tobytes())


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_the_fourth_band_of_a_tiff(tmp_path, kind):
    write_tiff(tmp_path / "x.tif", np.stack([RAMP, RAMP, RAMP, 0 * RAMP], 2).astype(np.uint16), kind)
    if kind == 1:
        with refused("unreadable-image") as caught:
            read(tmp_path / "x.tif")
        assert "premultiplied alpha" in caught.value.values["reason"]
    else:
        expected = EXPECTED if kind == 0 else np.full_like(EXPECTED, 255)
        assert np.array_equal(read(tmp_path / "x.tif")[..., 0], expected)


def test_a_16_bit_image_named_jpg_among_16_bit_images_counts(scans):
    Image.fromarray(np.full((8, 8), 9000, np.uint16)).save(scans / "x.png")
    (scans / "x.png").rename(scans / "train/light/9.jpg")
    assert load(scans).adapter.pixel_range == (0, 9000)

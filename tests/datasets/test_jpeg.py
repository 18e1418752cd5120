"""JPEGs of which the decoder makes up pixels are refused; what harms no pixel passes."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from hardness.datasets.decoding import File, read_picture
from hardness.datasets.jpeg import Damaged, decode_jpeg, orientation
from hardness.errors import UserError

_GARBAGE = b"garbage"


def encode(mode="RGB", size=(96, 64), **options) -> bytes:
    generator = np.random.default_rng(0)
    small = Image.fromarray(generator.integers(0, 256, (8, 12, 3), dtype=np.uint8))
    pixels = np.asarray(small.resize(size, Image.BICUBIC)) + generator.normal(0, 9, (size[1], size[0], 1))
    file = io.BytesIO()
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode)
    image.save(file, "JPEG", **options)
    return file.getvalue()


def pillows(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def before(data: bytes, marker: bytes, what: bytes, occurrence: int = 0) -> bytes:
    position = -1
    for _ in range(occurrence + 1):
        position = data.index(marker, position + 1)
    return data[:position] + what + data[position:]


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 4}, {"mode": "L"}]
)
def test_whole_ones_are_pillows_pixels(options):
    data = encode(**options)
    assert np.array_equal(decode_jpeg(data), pillows(data))


END = b"\xff\xd9"


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}, {"mode": "CMYK"}]
)
@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
@pytest.mark.parametrize("end", [b"", END], ids=["cut off", "end marker kept"])
def test_one_that_ends_early_is_damaged(options, share, end):
    data = encode(**options)
    with pytest.raises(Damaged):
        decode_jpeg(data[: int(share * len(data))] + end)


def test_lost_restarts_are_damage():
    data = encode(restart_marker_blocks=4)
    position = data.index(b"\xff\xd3")
    for damaged in (
        data[:position] + data[position + 2 :],
        data[:position] + b"\xff\xd5" + data[position + 2 :],
    ):
        with pytest.raises(Damaged):
            decode_jpeg(damaged)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_superfluous_bytes_between_segments_pass(options):
    data = encode(**options)
    more = before(before(data, b"\xff\xda", _GARBAGE), b"\xff\xdb", _GARBAGE)
    assert np.array_equal(decode_jpeg(more), pillows(data))
    assert np.array_equal(decode_jpeg(data + 9 * _GARBAGE), pillows(data))
    assert np.array_equal(decode_jpeg(data[:-2] + 9 * _GARBAGE + END), pillows(data))


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("end", [b"", END])
def test_damage_is_not_hidden_by_superfluous_bytes_before_it(options, end):
    more = before(before(encode(**options), b"\xff\xda", _GARBAGE), b"\xff\xdb", _GARBAGE)
    with pytest.raises(Damaged):
        decode_jpeg(more[: int(0.7 * len(more))] + end)


def test_odd_exif_passes(tmp_path):
    data = encode()
    odd = b"\xff\xe1\x00\x14Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"
    (tmp_path / "x.jpg").write_bytes(data[:2] + odd + data[2:])
    found = read_picture(File(tmp_path / "x.jpg")).permute(1, 2, 0)
    assert np.array_equal(found, pillows(data))


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"no JPEG", b"\xff\xd8\xff\xd9"])
def test_what_is_no_jpeg_is_left_to_another_decoder(data):
    assert decode_jpeg(data) is None


def test_the_file_is_named(tmp_path):
    data = encode()
    path = tmp_path / "x.jpg"
    path.write_bytes(data[: len(data) // 3] + END)
    with pytest.raises(UserError, match=r"x\.jpg \(Corrupt JPEG data: premature end of data segment\)"):
        read_picture(File(path))


def with_odd_header(data: bytes, what: str) -> bytes:
    """A fault of which no pixel depends."""
    changed = bytearray(data)
    if what == "JFIF revision":
        changed[data.index(b"JFIF") + 5] = 3
    else:
        # The end of the spectrum, which a sequential JPEG always has.
        start = data.index(b"\xff\xda") + 2
        changed[start + data[start + 1] - 2] = 0
    return bytes(changed)


@pytest.mark.parametrize("what", ["JFIF revision", "SOS parameters"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_damage_is_not_hidden_by_an_odd_header(what, mode):
    data = with_odd_header(encode(mode), what)
    assert np.array_equal(decode_jpeg(data), pillows(encode(mode)))
    with pytest.raises(Damaged):
        decode_jpeg(data[: len(data) // 2] + END)


def test_damage_is_not_hidden_by_much_garbage():
    data = encode()
    for _ in range(20):
        data = before(data, b"\xff\xda", _GARBAGE + b"\xff\xfe\x00\x03x")
    assert np.array_equal(decode_jpeg(data), pillows(encode()))
    with pytest.raises(Damaged):
        decode_jpeg(data[: len(data) * 2 // 3] + END)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "form"), [(3, "HH"), (4, "I")])
def test_exif_in_each_order_and_kind(order, kind, form):
    value = (6, 0) if form == "HH" else (6,)
    head = b"II*\0" if order == "<" else b"MM\0*"
    tiff = head + struct.pack(f"{order}IHHHI{form}", 8, 1, 0x0112, kind, 1, *value)
    segment = b"Exif\0\0" + tiff
    comment = b"\xff\xfe\x00\x0aExif\0\0ab"
    data = encode()
    found = data[:2] + comment + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    assert orientation(found) == 6
    assert orientation(data) == 1

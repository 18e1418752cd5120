"""JPEGs whose pixels the decoder would make up are rejected; faults that change no pixel are ignored."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from hardness.datasets.decoding import read_picture
from hardness.datasets.jpeg import Damaged, decode_jpeg, orientation
from hardness.datasets.source import File
from tests.conftest import refused

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
def test_complete_files_give_pillows_pixels(options):
    data = encode(**options)
    assert np.array_equal(decode_jpeg(data), pillows(data))


END = b"\xff\xd9"


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}, {"mode": "CMYK"}]
)
@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
@pytest.mark.parametrize("end", [b"", END], ids=["truncated", "end marker kept"])
def test_truncated_files_are_damaged(options, share, end):
    data = encode(**options)
    with pytest.raises(Damaged):
        decode_jpeg(data[: int(share * len(data))] + end)


def test_missing_restart_markers_are_damage():
    data = encode(restart_marker_blocks=4)
    position = data.index(b"\xff\xd3")
    for damaged in (
        data[:position] + data[position + 2 :],
        data[:position] + b"\xff\xd5" + data[position + 2 :],
    ):
        with pytest.raises(Damaged):
            decode_jpeg(damaged)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_extra_bytes_between_segments_are_ignored(options):
    data = encode(**options)
    more = before(before(data, b"\xff\xda", _GARBAGE), b"\xff\xdb", _GARBAGE)
    assert np.array_equal(decode_jpeg(more), pillows(data))
    assert np.array_equal(decode_jpeg(data + 9 * _GARBAGE), pillows(data))
    assert np.array_equal(decode_jpeg(data[:-2] + 9 * _GARBAGE + END), pillows(data))


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("end", [b"", END])
def test_extra_bytes_do_not_hide_later_damage(options, end):
    more = before(before(encode(**options), b"\xff\xda", _GARBAGE), b"\xff\xdb", _GARBAGE)
    with pytest.raises(Damaged):
        decode_jpeg(more[: int(0.7 * len(more))] + end)


def test_invalid_exif_is_ignored(tmp_path):
    data = encode()
    odd = b"\xff\xe1\x00\x14Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"
    (tmp_path / "x.jpg").write_bytes(data[:2] + odd + data[2:])
    found = read_picture(File(tmp_path / "x.jpg")).permute(1, 2, 0)
    assert np.array_equal(found, pillows(data))


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"no JPEG", b"\xff\xd8\xff\xd9"])
def test_other_formats_are_left_to_another_decoder(data):
    assert decode_jpeg(data) is None


def test_the_error_names_the_file(tmp_path):
    data = encode()
    path = tmp_path / "x.jpg"
    path.write_bytes(data[: len(data) // 3] + END)
    reason = "Corrupt JPEG data: premature end of data segment"
    with refused("unreadable-image", path=str(path), reason=reason):
        read_picture(File(path))


def with_invalid_header(data: bytes, what: str) -> bytes:
    """With a fault that changes no pixel."""
    changed = bytearray(data)
    if what == "JFIF revision":
        changed[data.index(b"JFIF") + 5] = 3
    else:
        # The end of spectral selection, which is constant in a sequential JPEG.
        start = data.index(b"\xff\xda") + 2
        changed[start + data[start + 1] - 2] = 0
    return bytes(changed)


@pytest.mark.parametrize("what", ["JFIF revision", "SOS parameters"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_invalid_header_does_not_hide_damage(what, mode):
    data = with_invalid_header(encode(mode), what)
    assert np.array_equal(decode_jpeg(data), pillows(encode(mode)))
    with pytest.raises(Damaged):
        decode_jpeg(data[: len(data) // 2] + END)


def test_many_extra_bytes_do_not_hide_damage():
    data = encode()
    for _ in range(20):
        data = before(data, b"\xff\xda", _GARBAGE + b"\xff\xfe\x00\x03x")
    assert np.array_equal(decode_jpeg(data), pillows(encode()))
    with pytest.raises(Damaged):
        decode_jpeg(data[: len(data) * 2 // 3] + END)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "form"), [(3, "HH"), (4, "I")])
def test_exif_of_each_byte_order_and_type(order, kind, form):
    value = (6, 0) if form == "HH" else (6,)
    head = b"II*\0" if order == "<" else b"MM\0*"
    tiff = head + struct.pack(f"{order}IHHHI{form}", 8, 1, 0x0112, kind, 1, *value)
    segment = b"Exif\0\0" + tiff
    comment = b"\xff\xfe\x00\x0aExif\0\0ab"
    data = encode()
    found = data[:2] + comment + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    assert orientation(found) == 6
    assert orientation(data) == 1

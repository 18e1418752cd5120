import io

import numpy as np
import pytest
from PIL import Image

from hardness.datasets.decoding import read_picture
from hardness.datasets.source import File
from tests.conftest import refused


@pytest.fixture
def data() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def read(tmp_path, data):
    (tmp_path / "x.png").write_bytes(data)
    return read_picture(File(tmp_path / "x.png")).permute(1, 2, 0).numpy()


def flip(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def test_a_flipped_bit_of_the_pixels_is_detected(tmp_path, data):
    start = data.index(b"IDAT") + 4
    for position in range(start, data.index(b"IEND") - 8, 50):
        with refused("unreadable-image", reason="wrong checksum of chunk IDAT"):
            read(tmp_path, flip(data, position))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_rejected(tmp_path, data, kept):
    with refused("unreadable-image", path=str(tmp_path / "x.png")):
        read(tmp_path, data[: int(kept * data.index(b"IEND"))])


def test_the_end_chunk_may_be_missing(tmp_path, data):
    whole = read(tmp_path, data)
    assert np.array_equal(read(tmp_path, data[: data.index(b"IEND") - 4]), whole)

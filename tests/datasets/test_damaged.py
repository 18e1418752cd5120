"""Damaged files of every kind are read correctly, skipped, or refused with a ``UserError``.

They never cause another error, a hang, or the use of a gigabyte of memory.
"""

import io
import re
import signal
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from hardness import datasets
from hardness.config import Data
from hardness.datasets.decoding import read_picture
from hardness.datasets.source import File
from hardness.errors import UserError
from tests.datasets.archives import encoded, write_tar

SECONDS, BYTES = 20, 2**30
COUNTS = [pytest.param(25, id="some"), pytest.param(500, id="many", marks=pytest.mark.slow)]


def damage(data: bytes, generator: np.random.Generator, end: int | None = None) -> bytes:
    """Flip bits before ``end``, or truncate, remove, insert, repeat or overwrite a few bytes."""
    start, other = sorted(generator.integers(0, end or len(data), 2))
    stop = min(other, start + 64) + 1
    kind = generator.integers(7)
    if kind == 0:
        flipped = bytearray(data)
        for position in generator.integers(0, end or len(data), generator.integers(1, 4)):
            flipped[position] ^= 1 << generator.integers(8)
        return bytes(flipped)
    if kind == 1:
        return data[:start]
    middle = {
        2: b"",
        3: data[start:stop] * 2,
        4: generator.bytes(stop - start) + data[start:stop],
        5: bytes(stop - start),
        6: b"\xff" * (stop - start),
    }
    return data[:start] + middle[kind] + data[stop:]


@contextmanager
def bounded() -> Iterator[None]:
    """Raise if the block takes too long, or too much additional memory."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"{SECONDS} s have passed")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    # Reset the peak to the current value.
    Path("/proc/self/clear_refs").write_text("5")
    at_first = peak()
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert peak() - at_first < BYTES


def peak() -> int:
    """Peak memory of this process in bytes."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def pictures(kind: str) -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((64, 48), Image.BICUBIC)
    made = {
        "JPEG": [
            (image, {}),
            (image, {"progressive": True}),
            (image.convert("L"), {"restart_marker_blocks": 4}),
            (image.convert("CMYK"), {}),
        ],
        "PNG": [
            (image, {}),
            (image.convert("L"), {}),
            (image.quantize(16), {"transparency": 3}),
            (Image.fromarray(pixels[..., 0].astype(np.uint16) * 200), {}),
        ],
    }
    found = []
    for each, options in made[kind]:
        file = io.BytesIO()
        each.save(file, kind, **options)
        found.append(file.getvalue())
    return found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pictures(tmp_path, kind, count):
    generator, path, originals = np.random.default_rng(0), tmp_path / "x", pictures(kind)
    expected = []
    for data in originals:
        path.write_bytes(data)
        expected.append(read_picture(File(path)))
    num_read = 0
    for number in range(count):
        which = number % len(originals)
        path.write_bytes(damaged := damage(originals[which], generator))
        with bounded():
            try:
                found = read_picture(File(path))
            except UserError:
                continue
        num_read += 1
        assert found.dtype == torch.uint8
        assert found.shape[0] == 3
        if kind == "PNG":
            # Its checksums detect every change.
            assert torch.equal(found, expected[which])
        else:
            # Truncated files are refused; libjpeg does not detect every flipped bit.
            assert b"\xff\xd9" in damaged
    assert num_read < count / 2


def loaded(data: str) -> dict[str, tuple[str, bytes | None]] | None:
    """Key -> (class name, pixels; None if unreadable); None if the data set was refused."""
    try:
        found = datasets.load(Data(data=data, on_bad_image="null", val_fraction=0.5, size=8))
    except UserError:
        return None
    return {
        key: (found.class_names[label], None if i in part.unreadable else part.inputs[[i]].numpy().tobytes())
        for part in (found.train, found.validation)
        for i, (key, label) in enumerate(zip(part.keys, part.clean_labels.tolist(), strict=True))
    }


def assert_right(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for key, (label, pixels) in found.items():
        assert label == expected[key][0]
        assert pixels in (None, expected[key][1])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", COUNTS)
def test_tars(tmp_path, capsys, count):
    generator, path = np.random.default_rng(0), tmp_path / "a.tar"
    names = ["cat", "dog"]
    members = [(f"{names[i % 2]}/{i}.png", encoded(40 * i)) for i in range(6)]
    whole = write_tar(path, members).read_bytes()
    with tarfile.open(path) as tar:
        end = max(info.offset_data + info.size for info in tar)
    expected, num_refused = loaded(f"tar:{path}"), 0
    for _ in range(count):
        path.write_bytes(damage(whole, generator, end))
        capsys.readouterr()
        with bounded():
            found = loaded(f"tar:{path}")
        num_refused += found is None
        if found is not None and "possibly truncated" not in capsys.readouterr().err:
            assert_right(found, expected)
    assert 0 < num_refused < count


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", COUNTS)
def test_parquet_files(tmp_path, count):
    generator, path = np.random.default_rng(0), tmp_path / "a.parquet"
    table = pa.table(
        {"image": [encoded(40 * i) for i in range(6)], "label": [f"class{i % 2}" for i in range(6)]}
    )
    pq.write_table(table, path, row_group_size=3, write_page_checksum=True)
    whole, expected, num_refused = path.read_bytes(), loaded(f"parquet:{path}"), 0
    for _ in range(count):
        path.write_bytes(damage(whole, generator))
        with bounded():
            found = loaded(f"parquet:{path}")
        num_refused += found is None
        if found is not None:
            assert_right(found, expected)
    assert 0 < num_refused < count

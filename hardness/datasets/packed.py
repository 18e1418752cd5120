"""Packed images: decoded once, stored as uint8 in memory-mapped Arrow files.

``DIR/train-00000.arrow``, ..., ``DIR/val-00000.arrow``, ... have the columns example_id, key, label,
is_readable and image (H x W x C bytes); their metadata has the image transform. ``DIR/pack.json``, written
last, describes the data set and has the SHA-256 of each shard.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hardness import files
from hardness.checks import require
from hardness.config import Data
from hardness.datasets.source import Source
from hardness.errors import UserError
from hardness.registry import SOURCES

if TYPE_CHECKING:
    from hardness.datasets.examples import DataSet, Examples
    from hardness.resources import Resources

PARTS = ("train", "val")
OF_DATA = ("class_names", "image_shape", "mean", "std", "transform", "pixel_range", "parts")
"""Keys of pack.json that come from ``DataSet.describe``."""
_REQUIRED = ("fingerprint", "num_examples", "num_rows", "shards", *OF_DATA[:5])
_TRANSFORM = b"hardness.transform"
_REMOVE = "Remove the folder and pack again."


def shard_path(folder: Path, part: str, number: int) -> Path:
    return folder / f"{part}-{number:05d}.arrow"


def write_shard(
    path: Path, images: "Examples", first: int, pixels: np.ndarray, is_readable: np.ndarray, transform: str
) -> None:
    """Write the examples from ``first`` on: pixels uint8 (n, H, W, C), is_readable bool (n,)."""
    ids = np.arange(first, first + len(pixels))
    image_bytes = pa.py_buffer(pixels)
    kind = pa.binary(pixels[0].nbytes)
    columns = {
        "example_id": pa.array(ids),
        "key": pa.array([images.keys[i] for i in ids]),
        "label": pa.array(images.clean_labels[ids].numpy()),
        "is_readable": pa.array(is_readable),
        "image": pa.FixedSizeBinaryArray.from_buffers(kind, len(pixels), [None, image_bytes]),
    }
    batch = pa.record_batch(columns, metadata={_TRANSFORM: transform.encode()})
    with files.replacing(path) as temporary, pa.ipc.new_file(str(temporary), batch.schema) as file:
        file.write_batch(batch)


def read_shard(path: Path, image_shape: Sequence[int], transform: str) -> pa.RecordBatch:
    """Its record batch, memory-mapped. Raises ``UserError`` if it is damaged or has other images."""
    try:
        with pa.memory_map(str(path)) as source:
            file = pa.ipc.open_file(source)
            batch = file.get_batch(0)
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from error
    last = "".join(f"{field.name}: {field.type}" for field in list(batch.schema)[-1:])
    check_same(path, "last column", last, f"image: {pa.binary(int(np.prod(image_shape)))}")
    metadata = batch.schema.metadata or {}
    check_same(path, "image transform", metadata.get(_TRANSFORM, b"unknown").decode(), transform)
    return batch


def check_same(path: Path, what: str, found: object, expected: object) -> None:
    """Raise ``UserError`` if a pack or a shard is of another data set."""
    if found != expected:
        sentence = "{path} was packed from other data: its {what} is {found}, not {expected}."
        hint = "Remove it and pack again, or choose another --out."
        values = {"path": str(path), "what": what, "found": found, "expected": expected}
        raise UserError("pack-of-other-data", sentence, hint, **values)


def _missing(path: Path) -> UserError:
    hint = "Restore it, or pack again."
    return UserError("missing-shard", "The shard {path} is missing.", hint, path=str(path))


def _damaged(path: Path, reason: str) -> UserError:
    sentence, hint = "The shard {path} is damaged ({reason}).", "Remove it and pack again."
    return UserError("damaged-shard", sentence, hint, path=str(path), reason=reason)


def _inconsistent(folder: Path, reason: str) -> UserError:
    sentence = "pack.json in {folder} does not match its shards: {reason}."
    return UserError("inconsistent-pack", sentence, _REMOVE, folder=str(folder), reason=reason)


def pixels_of(batch: pa.RecordBatch, image_shape: Sequence[int]) -> np.ndarray:
    """uint8 (n, H, W, C), a view of the memory-mapped file."""
    channels, height, width = image_shape
    data = np.frombuffer(batch.column("image").buffers()[1], np.uint8)
    return data[: batch.num_rows * height * width * channels].reshape(-1, height, width, channels)


def read_info(folder: Path) -> dict[str, Any]:
    """pack.json. Raises ``UserError`` if it is missing (packing has not finished) or of another version."""
    Packed("packed", str(folder)).check(None)
    info = files.read_json(folder / "pack.json", _REQUIRED, _REMOVE)
    for name in info["shards"]:
        if not re.fullmatch(r"(train|val)-\d{5}\.arrow", name):
            raise _inconsistent(folder, f"{name!r} is not the name of a shard")
    return info


def checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: Path) -> int:
    """Compare the SHA-256 of every shard, and return their number. Raises ``UserError`` if one differs."""
    shards = read_info(folder)["shards"]
    for name, expected in shards.items():
        path = folder / name
        if not path.is_file():
            raise _missing(path)
        if (found := checksum(path)) != expected:
            raise _damaged(path, f"its SHA-256 is {found}, not {expected}")
    return len(shards)


@SOURCES.register("packed")
class Packed(Source):
    """PATH, a folder that `hardness pack` wrote. It is memory-mapped; pixels are read on access."""

    flags = frozenset({"size"})
    is_packed = True

    def check(self, val_fraction: float | None) -> None:
        sentence, hint = "{folder} has no pack.json.", "Check the path, or run `hardness pack` first."
        holds = (Path(self.place) / "pack.json").is_file()
        require(holds, "not-a-packed-folder", sentence, hint, folder=self.place)

    def load(self, config: Data, model: str, resources: "Resources") -> "DataSet":
        """``config.size``: the network uses a center crop of this size."""
        from hardness.datasets.examples import DataSet
        from hardness.datasets.images import ImageAdapter

        folder = Path(self.place)
        info = read_info(folder)
        train, validation = (_open(folder, info, part, config.cache) for part in PARTS)
        channels, *packed_size = info["image_shape"]
        size = [config.size] * 2 if config.size else packed_size
        if max(size) > min(packed_size):
            sentence = "--size {size} is larger than the {height} x {width} pixels of the images in {folder}."
            height, width = packed_size
            values = {"size": size[0], "height": height, "width": width, "folder": str(folder)}
            raise UserError("size-above-packed", sentence, "Choose a smaller size.", **values)
        # Older packs have neither a range of values nor parts.
        of_images = (info["mean"], info["std"], info["transform"], info.get("pixel_range"))
        adapter = ImageAdapter((channels, *size), *of_images)
        data = DataSet(train, validation, info["class_names"], adapter, info.get("parts", {}))
        if data.fingerprint != info["fingerprint"]:
            reason = f"the fingerprint of their keys is {data.fingerprint}, not {info['fingerprint']}"
            raise _inconsistent(folder, reason)
        return data


def _open(folder: Path, info: dict[str, Any], part: str, cache: str) -> "Examples":
    import torch

    from hardness.datasets.examples import Examples
    from hardness.datasets.pixels import HostPixels

    names = sorted(name for name in info["shards"] if name.startswith(f"{part}-"))
    batches = [read_shard(folder / name, info["image_shape"], info["transform"]) for name in names]
    table = pa.Table.from_batches([batch.select(batch.schema.names[:-1]) for batch in batches])
    if not np.array_equal(table["example_id"].to_numpy(), np.arange(info["num_examples"][part])):
        expected = info["num_examples"][part]
        raise _inconsistent(folder, f"the {part} shards do not have the examples 0..{expected - 1} in order")
    labels = torch.tensor(table["label"].to_numpy())
    is_mapped = cache != "host"
    shards = [pixels_of(batch, info["image_shape"]) for batch in batches]
    return Examples(
        HostPixels(shards if is_mapped else [shard.copy() for shard in shards], info["num_rows"], is_mapped),
        table["key"].to_pylist(),
        labels,
        labels,
        np.flatnonzero(~table["is_readable"].to_numpy()),
    )

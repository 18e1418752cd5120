"""Packed images: decoded once, kept as uint8 in Arrow files that are mapped into memory.

``DIR/train-00000.arrow``, ..., ``DIR/val-00000.arrow``, ... have the columns example_id, key, label,
is_readable and image (C x H x W bytes). ``DIR/pack.json``, written last, says what they are of, with the
SHA-256 of each.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from hardness import files
from hardness.config import Data
from hardness.datasets.base import DataSet, ImageSet
from hardness.errors import UserError

PARTS = ("train", "val")
_REQUIRED = ("fingerprint", "num_examples", "num_rows", "class_names", "image_shape", "mean", "std", "shards")


@dataclass(frozen=True)
class PackedImages:
    """``images[ids]`` is uint8 (B, C, H, W), copied out of the mapped files."""

    shards: Sequence[np.ndarray]
    """Each (num_rows, C, H, W) uint8; the last one may be shorter."""
    num_rows: int

    def __getitem__(self, ids: Sequence[int]) -> Tensor:
        ids = np.asarray(ids, np.int64)
        images = np.empty((len(ids), *self.shards[0].shape[1:]), np.uint8)
        shard, row = np.divmod(ids, self.num_rows)
        for number in np.unique(shard):
            where = shard == number
            images[where] = self.shards[number][row[where]]
        return torch.from_numpy(images)


def shard_path(folder: Path, part: str, number: int) -> Path:
    return folder / f"{part}-{number:05d}.arrow"


def write_shard(
    path: Path, images: ImageSet, first: int, pixels: np.ndarray, is_readable: np.ndarray
) -> None:
    """Write examples ``first`` and on: pixels uint8 (n, C, H, W), is_readable bool (n,)."""
    ids = np.arange(first, first + len(pixels))
    image_bytes = pa.py_buffer(np.ascontiguousarray(pixels))
    kind = pa.binary(pixels[0].nbytes)
    columns = {
        "example_id": pa.array(ids),
        "key": pa.array([images.keys[i] for i in ids]),
        "label": pa.array(images.clean_labels[ids].numpy()),
        "is_readable": pa.array(is_readable),
        "image": pa.FixedSizeBinaryArray.from_buffers(kind, len(pixels), [None, image_bytes]),
    }
    batch = pa.record_batch(columns)
    with files.replacing(path) as temporary, pa.ipc.new_file(str(temporary), batch.schema) as file:
        file.write_batch(batch)


def read_shard(path: Path, image_shape: Sequence[int]) -> pa.RecordBatch:
    """The one record batch, mapped. Raises ``UserError`` where it is no whole shard of such images."""
    do = "pack again, or restore it"
    try:
        with pa.memory_map(str(path)) as source:
            file = pa.ipc.open_file(source)
            batch = file.get_batch(0)
    except FileNotFoundError as error:
        raise UserError(f"a shard {path}", "none there", do) from error
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"a whole shard {path}", str(error).splitlines()[0], do) from error
    width = int(np.prod(image_shape))
    if batch.schema.names[-1:] != ["image"] or batch.schema.field("image").type != pa.binary(width):
        raise UserError(f"images of {width} bytes in {path}", str(batch.schema.types[-1]), do)
    return batch


def pixels_of(batch: pa.RecordBatch, image_shape: Sequence[int]) -> np.ndarray:
    """uint8 (n, C, H, W), a view of the mapped file."""
    data = batch.column("image").buffers()[1]
    return np.frombuffer(data, np.uint8, batch.num_rows * int(np.prod(image_shape))).reshape(-1, *image_shape)


def read_info(folder: Path) -> dict[str, Any]:
    """pack.json. Raises ``UserError`` where there is none of this version: packing was not finished."""
    path = folder / "pack.json"
    do = "give the `hardness pack` command that made it again"
    if not path.is_file():
        raise UserError(f"a packed folder, with {path}", "none there", do)
    info = files.read_json(path, _REQUIRED, do)
    foreign = [name for name in info["shards"] if not re.fullmatch(r"(train|val)-\d{5}\.arrow", name)]
    if foreign:
        raise UserError(f"shards named as `hardness pack` names them in {path}", repr(foreign[0]), do)
    return info


def checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(folder: Path) -> int:
    """Read every shard -> how many there are. Raises ``UserError`` for one that isn't as it was written."""
    shards = read_info(folder)["shards"]
    for name, expected in shards.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"a shard {path}", "none there", "pack again, or restore it")
        if (found := checksum(path)) != expected:
            raise UserError(f"SHA-256 {expected} of {path}", found, "remove it, and pack again")
    return len(shards)


def load(place: str, config: Data, *, model: str, workers: int) -> DataSet:
    """Map the shards; no pixel is read before it is asked for."""
    folder = Path(place)
    info = read_info(folder)
    train, validation = (_open(folder, info, part) for part in PARTS)
    data = DataSet(
        train=train,
        validation=validation,
        class_names=info["class_names"],
        image_shape=tuple(info["image_shape"]),
        mean=info["mean"],
        std=info["std"],
    )
    if data.fingerprint != info["fingerprint"]:
        found = f"{data.fingerprint} from its keys"
        raise UserError(f"data set {info['fingerprint']} in {folder}", found, "pack again")
    return data


def _open(folder: Path, info: dict[str, Any], part: str) -> ImageSet:
    names = sorted(name for name in info["shards"] if name.startswith(f"{part}-"))
    batches = [read_shard(folder / name, info["image_shape"]) for name in names]
    table = pa.Table.from_batches([batch.select(batch.schema.names[:-1]) for batch in batches])
    if not np.array_equal(table["example_id"].to_numpy(), np.arange(info["num_examples"][part])):
        expected = f"examples 0..{info['num_examples'][part] - 1} in order in {folder}/{part}-*.arrow"
        raise UserError(expected, f"{len(table)} others", "pack again")
    labels = torch.tensor(table["label"].to_numpy())
    return ImageSet(
        PackedImages([pixels_of(batch, info["image_shape"]) for batch in batches], info["num_rows"]),
        table["key"].to_pylist(),
        labels,
        labels,
        np.flatnonzero(~table["is_readable"].to_numpy()),
    )

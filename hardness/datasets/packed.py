"""Packed images: decoded once, kept as uint8 in Arrow files that are mapped into memory.

``DIR/train-00000.arrow``, ..., ``DIR/val-00000.arrow``, ... have the columns example_id, key, label,
is_readable and image (H x W x C bytes), and say how the pictures were transformed. ``DIR/pack.json``,
written last, says what they are of, with the SHA-256 of each.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from hardness import files
from hardness.config import Data
from hardness.datasets.base import DataSet, ImageSet
from hardness.datasets.pixels import HostPixels
from hardness.errors import UserError
from hardness.resources import Resources

PARTS = ("train", "val")
OF_DATA = ("class_names", "image_shape", "mean", "std", "transform", "pixel_range", "parts")
"""What pack.json says in the words of ``DataSet.describe``."""
_REQUIRED = ("fingerprint", "num_examples", "num_rows", "shards", *OF_DATA[:5])
_TRANSFORM = b"hardness.transform"
_AGAIN = "pack again, or restore it"


def shard_path(folder: Path, part: str, number: int) -> Path:
    return folder / f"{part}-{number:05d}.arrow"


def write_shard(
    path: Path, images: ImageSet, first: int, pixels: np.ndarray, is_readable: np.ndarray, transform: str
) -> None:
    """Write examples ``first`` and on: pixels uint8 (n, H, W, C), is_readable bool (n,)."""
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
    """The one record batch, mapped. Raises ``UserError`` where it is no whole shard of such images."""
    try:
        with pa.memory_map(str(path)) as source:
            file = pa.ipc.open_file(source)
            batch = file.get_batch(0)
    except FileNotFoundError as error:
        raise UserError(f"a shard {path}", "none there", _AGAIN) from error
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"a whole shard {path}", str(error).splitlines()[0], _AGAIN) from error
    width = int(np.prod(image_shape))
    if batch.schema.names[-1:] != ["image"] or batch.schema.field("image").type != pa.binary(width):
        raise UserError(f"images of {width} bytes in {path}", str(batch.schema.types[-1]), _AGAIN)
    found = (batch.schema.metadata or {}).get(_TRANSFORM, b"nothing of it").decode()
    if found != transform:
        raise UserError(f"images in {path} of {transform}", found, "choose another --out")
    return batch


def pixels_of(batch: pa.RecordBatch, image_shape: Sequence[int]) -> np.ndarray:
    """uint8 (n, H, W, C), a view of the mapped file."""
    channels, height, width = image_shape
    data = np.frombuffer(batch.column("image").buffers()[1], np.uint8)
    return data[: batch.num_rows * height * width * channels].reshape(-1, height, width, channels)


def read_info(folder: Path) -> dict[str, Any]:
    """pack.json. Raises ``UserError`` where there is none of this version: packing was not finished."""
    path = folder / "pack.json"
    if not path.is_file():
        do = "give the `hardness pack` command that made it again"
        raise UserError(f"a packed folder, with {path}", "none there", do)
    do = "remove the folder, and pack again"
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
            raise UserError(f"a shard {path}", "none there", _AGAIN)
        if (found := checksum(path)) != expected:
            raise UserError(f"SHA-256 {expected} of {path}", found, "remove it, and pack again")
    return len(shards)


def load(place: str, config: Data, *, model: str, resources: Resources) -> DataSet:
    """Map the shards; no pixel is read before it is asked for.

    ``config.size``: of the middle of the images that the network sees.
    """
    folder = Path(place)
    info = read_info(folder)
    train, validation = (_open(folder, info, part, config.cache) for part in PARTS)
    channels, *packed_size = info["image_shape"]
    size = [config.size] * 2 if config.size else packed_size
    if max(size) > min(packed_size):
        found = f"images of {packed_size[0]} x {packed_size[1]} in {folder}"
        raise UserError(f"images of {size[0]} pixels for --size", found, "choose a smaller one")
    data = DataSet(
        train=train,
        validation=validation,
        class_names=info["class_names"],
        image_shape=(channels, *size),
        mean=info["mean"],
        std=info["std"],
        transform=info["transform"],
        # Packs of an older version know of neither.
        pixel_range=info.get("pixel_range"),
        parts=info.get("parts", {}),
    )
    if data.fingerprint != info["fingerprint"]:
        found = f"{data.fingerprint} from its keys"
        raise UserError(f"data set {info['fingerprint']} in {folder}", found, "pack again")
    return data


def _open(folder: Path, info: dict[str, Any], part: str, cache: str) -> ImageSet:
    names = sorted(name for name in info["shards"] if name.startswith(f"{part}-"))
    batches = [read_shard(folder / name, info["image_shape"], info["transform"]) for name in names]
    table = pa.Table.from_batches([batch.select(batch.schema.names[:-1]) for batch in batches])
    if not np.array_equal(table["example_id"].to_numpy(), np.arange(info["num_examples"][part])):
        expected = f"examples 0..{info['num_examples'][part] - 1} in order in {folder}/{part}-*.arrow"
        raise UserError(expected, f"{len(table)} others", "pack again")
    labels = torch.tensor(table["label"].to_numpy())
    is_mapped = cache != "host"
    shards = [pixels_of(batch, info["image_shape"]) for batch in batches]
    return ImageSet(
        HostPixels(shards if is_mapped else [shard.copy() for shard in shards], info["num_rows"], is_mapped),
        table["key"].to_pylist(),
        labels,
        labels,
        np.flatnonzero(~table["is_readable"].to_numpy()),
    )

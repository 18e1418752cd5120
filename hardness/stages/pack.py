"""``hardness pack``: decode a data set once, into a folder of memory-mapped files."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from hardness import datasets, files
from hardness.config import Data
from hardness.console import progress, say
from hardness.datasets import DataSet, Examples, packed
from hardness.datasets.samples import flattened, leave_out, read_in_order, warn_of_flattened
from hardness.resources import num_workers
from hardness.settings.pack import Pack

_SHARD_BYTES = 256 * 2**20


def pack(config: Pack) -> Path:
    """Write the packed folder, or with ``verify`` check one, and return its path.

    If it was interrupted, or a shard was removed, repeating it continues with the first missing shard and
    gives the same bytes.
    """
    if config.verify is not None:
        say(f"all {packed.verify(config.verify)} shards of {config.verify} verified")
        return config.verify
    started = time.perf_counter()
    # Unreadable images are handled while packing.
    names = ("data", "size", "val_fraction", "download", "background", "pixel_range")
    source = Data(**{name: getattr(config, name) for name in names}, cache="none")
    data = datasets.load(source, model="", workers=num_workers(config.workers))
    out = config.output(vars(config))
    parts = dict(zip(packed.PARTS, (data.train, data.validation), strict=True))
    if (out / "pack.json").exists() and _is_whole(out, data, parts):
        say(f"{out} is already packed: nothing to do")
        return out
    num_rows = max(1, _SHARD_BYTES // int(np.prod(data.adapter.input_shape)))
    shards, num_read = {}, 0
    for part, images in parts.items():
        first = _num_packed(out, part, images, data, num_rows)
        num_read += len(images) - first
        steps = _pack(out, part, images, first, data, num_rows, config)
        for _ in progress(steps, len(images) - first, f"packing {part}"):
            pass
        for number in range(-(-len(images) // num_rows)):
            path = packed.shard_path(out, part, number)
            shards[path.name] = packed.checksum(path)
    description = data.describe()
    files.write_json(
        out / "pack.json",
        {
            "format_version": files.FORMAT_VERSION,
            "fingerprint": data.fingerprint,
            "source": config.data,
            "num_examples": {part: len(images) for part, images in parts.items()},
            "num_rows": num_rows,
            **{name: description[name] for name in packed.OF_DATA},
            "shards": shards,
        },
    )
    seconds = time.perf_counter() - started
    size = sum((out / name).stat().st_size for name in shards)
    say(
        f"packed {num_read:,} images ({num_read / seconds:,.0f} images/s) into {len(shards)} shards "
        f"({size / 1e6:,.0f} MB). Use them with --data packed:{out}"
    )
    return out


def _is_whole(out: Path, data: DataSet, parts: dict[str, Examples]) -> bool:
    """Does a finished folder have all shards? Raises ``UserError`` if it is of another data set."""
    info = packed.read_info(out)
    for what, name, expected in (
        ("fingerprint", "fingerprint", data.fingerprint),
        ("image shape", "image_shape", list(data.adapter.input_shape)),
        ("image transform", "transform", data.adapter.transform),
        ("number of images", "num_examples", {part: len(images) for part, images in parts.items()}),
    ):
        packed.check_same(out, what, info[name], expected)
    num_rows = info["num_rows"]
    return all(_num_packed(out, part, each, data, num_rows) == len(each) for part, each in parts.items())


def _num_packed(out: Path, part: str, images: Examples, data: DataSet, num_rows: int) -> int:
    """The number of images in the shards that already exist. Raises ``UserError`` if they are others."""
    first = 0
    while first < len(images) and (path := packed.shard_path(out, part, first // num_rows)).exists():
        shard = packed.read_shard(path, data.adapter.input_shape, data.adapter.transform)
        rows = slice(first, first + num_rows)
        packed.check_same(path, "number of images", shard.num_rows, len(images.keys[rows]))
        for name, column in (("key", list(images.keys[rows])), ("label", images.clean_labels[rows].tolist())):
            for row, pair in enumerate(zip(shard.column(name).to_pylist(), column, strict=True), first):
                packed.check_same(path, f"{name} of example {row}", *pair)
        first += shard.num_rows
    return first


def _pack(
    out: Path, part: str, images: Examples, first: int, data: DataSet, num_rows: int, config: Pack
) -> Iterator[int]:
    """Write the shards from example ``first`` on; yield after every image."""
    channels, height, width = data.adapter.input_shape
    batches = read_in_order(images.inputs, first, len(images), num_workers(config.workers), borders=num_rows)
    # One shard is written while the next is read.
    flat: list[int] = []
    with ThreadPoolExecutor(1) as thread:
        writing = None
        for positions, read, errors in batches:
            read_here = [*positions, *errors]
            flat += flattened(images.inputs, positions, read)
            if min(read_here) % num_rows == 0:
                start = min(read_here)
                size = min(num_rows, len(images) - start)
                # NumPy requests huge pages for empty arrays, not for zeros.
                pixels, is_readable = np.empty((size, height, width, channels), np.uint8), np.ones(size, bool)
            if positions:
                pixels[np.array(positions) - start] = read.permute(0, 2, 3, 1).numpy()
            for position in leave_out(errors, config.on_bad_image):
                pixels[position - start], is_readable[position - start] = 0, False
            if max(read_here) == start + size - 1:
                if writing:
                    writing.result()
                path = packed.shard_path(out, part, start // num_rows)
                shard = path, images, start, pixels, is_readable, data.adapter.transform
                writing = thread.submit(packed.write_shard, *shard)
            yield from read_here
        if writing:
            writing.result()
    warn_of_flattened(images.inputs, flat)

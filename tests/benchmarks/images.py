"""Throughput of images: packed, from files, and with the loaders of other libraries.

    python -m tests.benchmarks.images [--smoke] [--data DATA] > reports/benchmarks/images.md

``--data``: a real data set to pack and track as well, e.g. tar:PATTERN. Images are generated otherwise.
Writes 2 GB to the temporary folder, and removes them.
"""

import argparse
import contextlib
import io
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from hardness import datasets
from hardness.config import Data
from hardness.datasets import Loader, Shuffled, cache
from hardness.datasets.images import Normalize, in_memory
from hardness.resources import Resources
from hardness.stages.pack import Pack, pack
from tests.benchmarks import peers
from tests.benchmarks.peers import BATCH, Images
from tests.benchmarks.timing import in_turn, machine, seconds
from tests.jobs import job

SIZES = {64: ((64, 64), 64, 8192), 224: ((500, 375), 256, 1024)}
"""Width and height of the images, short side they are resized to, how many."""
CORES = sorted(os.sched_getaffinity(0))


def make(root: Path, size: int, count: int) -> None:
    """JPEGs as large as ImageNet's, or Tiny-ImageNet's: smooth, with noise."""
    generator = np.random.default_rng(size)
    for number in range(count + count // 8):
        part = "train" if number < count else "val"
        path = root / part / f"class{number % 8}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        pixels = np.asarray(small.resize(SIZES[size][0], Image.BICUBIC), np.float32)
        noise = generator.normal(0, 12, (*pixels.shape[:2], 1))
        Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).save(path, quality=90)


def without_output(task: Callable) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        return task()


class Packed:
    """The images of a folder, packed beside them."""

    def __init__(self, root: Path, size: int):
        kind = "imagenet" if size == 224 else "imagefolder"
        self.source, self.folder = f"{kind}:{root}", root / "packed"
        without_output(lambda: pack(Pack(data=self.source, out=self.folder)))
        self.data = datasets.load(Data(data=f"packed:{self.folder}"))

    @property
    def images(self) -> Images:
        train = self.data.train
        pixels = train.inputs[range(len(train))].permute(0, 2, 3, 1).numpy()
        size = self.data.adapter.input_shape[-1]
        return Images(self.folder.parent, SIZES[size][1], size, pixels)

    def passes(self) -> dict[str, peers.Pass]:
        train, adapter = self.data.train, self.data.adapter
        normalize = Normalize(adapter.mean, adapter.std, 3)
        batches = Shuffled(train.ids, BATCH)

        def normalized() -> Iterator:
            return (normalize(images) for images, _, _ in Loader(train, batches))

        return {
            "**hardness, packed, uint8**": lambda: iter(Loader(train, batches)),
            "**hardness, packed, normalized**": normalized,
        }


def run_through(batches: peers.Pass, num_images: int, times: int) -> None:
    count = sum(
        len(batch[0] if isinstance(batch, list | tuple) else batch)
        for _ in range(times)
        for batch in batches()
    )
    # A loader that leaves examples out would look fast.
    assert abs(count - times * num_images) < BATCH, (count, num_images)


def read_rows(roots: dict[int, str], cores: list[int], rounds: int) -> list[str]:
    """Table rows: the throughput of every loader at every size, timed in turn.

    Limits this process to the given cores, so it must run in a new process.
    """
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))
    workers = 0 if len(cores) == 1 else len(cores)
    return [row for size, root in roots.items() for row in rows_of_size(root, size, workers, rounds)]


def rows_of_size(root: str, size: int, workers: int, rounds: int) -> list[str]:
    packed = Packed(Path(root), size)
    images, num_images = packed.images, len(packed.data.train)
    passes = peers.image_folder(images, workers) | packed.passes()
    for name in peers.installed():
        passes |= peers.PEERS[name](images, workers)
    # Fast loaders run several times, so that each is timed for long enough; not in a smoke test.
    times = dict.fromkeys(passes, 1)
    for name, batches in passes.items() if rounds > 1 else ():
        run_through(batches, num_images, 1)
        times[name] = max(1, min(50, round(0.5 / seconds(partial(run_through, batches, num_images, 1)))))
    tasks = {name: partial(run_through, batches, num_images, times[name]) for name, batches in passes.items()}
    found = in_turn(tasks, rounds)
    rates = {name: num_images * times[name] / taken for name, taken in found.items()}
    base = rates["ImageFolder, uint8"]
    return [
        f"| {size} | {name} | {rate:,.0f} | {rate / base:,.1f} | {rate * size * size * 3 / 1e9:.2f} |"
        for name, rate in sorted(rates.items(), key=lambda item: item[1])
    ]


def in_new_process(rows: str) -> str:
    """The output of a call in a new process. os._exit ends it although some loaders still have threads."""
    code = f"import os; from tests.benchmarks.images import read_rows; print('\\n'.join({rows}), flush=True)"
    command = [sys.executable, "-c", f"{code}; os._exit(0)"]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return result.stdout.strip()


def copy_row(size: int) -> str:
    """For comparison: the copy of a batch from memory to memory, on one core."""
    source = np.ones((BATCH * 8, size, size, 3), np.uint8)
    target, parts = np.empty_like(source[:BATCH]), itertools.cycle(np.split(source, 8))
    taken = in_turn({"": lambda: np.copyto(target, next(parts))}, 5, repeats=8)[""]
    rate = BATCH / taken
    name, gigabytes = "*copy of the same number of bytes*", rate * size * size * 3 / 1e9
    return f"| {size} | {name} | {rate:,.0f} | | {gigabytes:.2f} |"


def pack_row(packed: Packed, root: Path, size: int, rounds: int) -> str:
    """`hardness pack` compared with one pass of ImageFolder and DataLoader, with one process per core."""
    workers = len(CORES)
    numbers = itertools.count()

    def pack_again() -> None:
        out = root / f"packed-{next(numbers)}"
        without_output(lambda: pack(Pack(data=packed.source, out=out, workers=workers)))

    transform = packed.images.transform(v2.PILToTensor())
    folders = [ImageFolder(root / part, transform) for part in ("train", "val")]

    def one_pass() -> None:
        for folder in folders:
            for _ in DataLoader(folder, BATCH, num_workers=workers):
                pass

    found = in_turn({"pass": one_pass, "pack": pack_again}, rounds)
    count = len(packed.data.train) + len(packed.data.validation)
    file_bytes = sum(path.stat().st_size for path in root.rglob("*.jpg")) / count
    packed_bytes = sum(path.stat().st_size for path in packed.folder.glob("*.arrow")) / count
    return (
        f"| {size} | {count:,} | {count / found['pass']:,.0f} | {count / found['pack']:,.0f} | "
        f"**{found['pass'] / found['pack']:.2f}** | {file_bytes / 1e3:.1f} | {packed_bytes / 1e3:.1f} |"
    )


def epoch_row(model: str, packed: Packed, size: int, device: str, count: int, rounds: int) -> str:
    """A training epoch that reads packed images, compared with one that reads tensors in memory."""
    data = packed.data
    ids = data.train.ids[:count]
    pixels = data.train.inputs[range(len(data.train))]
    in_tensors = in_memory(pixels, data.train.clean_labels, "train")
    memory = replace(data, train=in_tensors, validation=in_tensors)
    memory = cache.place(memory, "auto", torch.device(device))

    def epoch(images: datasets.Examples) -> None:
        resources = Resources(torch.device(device))
        settings = {"model": model, "optimizer": "sgd", "lr": 0.01, "epochs": 1, "batch_size": 64}
        for _ in job(data, resources=resources, examples=images, ids=ids, **settings).start().epochs():
            pass

    tasks = {"memory": lambda: epoch(memory.train), "packed": lambda: epoch(data.train)}
    found = in_turn(tasks, rounds, device=device)
    return (
        f"| {model} | {size} | {device} | {len(ids):,} | {found['memory']:.2f} | {found['packed']:.2f} | "
        f"**{found['packed'] / found['memory']:.3f}** |"
    )


def real_rows(data: str, epochs: int) -> list[str]:
    """The commands on a real data set."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for words in (
            ["pack", "--data", data, "--out", "packed"],
            ["pack", "--verify", "packed"],
            ["track", "--data", "packed:packed", "--model", "small_cnn", "--epochs", str(epochs)],
        ):
            command = [sys.executable, "-c", "from hardness.cli import main; main()", *words]
            started = time.perf_counter()
            result = subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(Path.cwd())},
                capture_output=True,
                text=True,
                check=True,
            )
            taken = time.perf_counter() - started
            lines = result.stdout.splitlines()
            last_line = [line for line in lines if line.startswith(("packed", "all", "epoch"))][-1]
            rows.append(f"| `hardness {' '.join(words[:2])} ...` | {taken:.1f} | {last_line} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true", help="a few small images")
    parser.add_argument("--data", help="a real data set to pack and track as well")
    options = parser.parse_args()
    rounds = 1 if options.smoke else 3
    missing = sorted(set(peers.PEERS) - set(peers.installed()))
    print(f"# Images\n\nMeasured by `python -m tests.benchmarks.images`, {machine()}")
    print(f"Not installed here: {', '.join(missing) or 'none of the other libraries'}.\n" if missing else "")
    with tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(1)
        packs = {}
        for size, (_, _, count) in SIZES.items():
            root = Path(folder) / str(size)
            make(root, size, 64 if options.smoke else count)
            packs[size] = (Packed(root, size), root)
        print(READ)
        for title, cores in (("One core", CORES[:1]), ("All cores", CORES)):
            print(f"### {title}\n\n{READ_HEADER}")
            roots = {size: str(root) for size, (_, root) in packs.items()}
            print(in_new_process(f"read_rows({roots}, {cores}, {rounds})"))
            print("\n".join(map(copy_row, packs)), end="\n\n", flush=True)
        print(PACKING)
        for size, (packed, root) in packs.items():
            print(pack_row(packed, root, size, rounds))
        print(EPOCH)
        torch.set_num_threads(len(CORES))
        runs = [("small_cnn", 64, "cpu")]
        if torch.cuda.is_available():
            runs += [("resnet18", size, "cuda") for size in SIZES]
        for model, size, device in runs:
            with contextlib.redirect_stdout(io.StringIO()):
                row = epoch_row(model, packs[size][0], size, device, 4096, 2 * rounds)
            print(row)
        if not torch.cuda.is_available():
            print("| resnet18 | 64, 224 | cuda | | | | not measured: this machine has no GPU |")
    if options.data:
        print(REAL)
        print("\n".join(real_rows(options.data, epochs=1 if options.smoke else 2)))


READ_HEADER = """| pixels | loader | images/s | relative to ImageFolder | GB/s |
| ---: | --- | ---: | ---: | ---: |"""
READ = f"""
## Reading

All loaders read the same generated JPEGs in shuffled order, in batches of {BATCH}. The images have 64 x 64
pixels, or 500 x 375 pixels that are resized to 256 and cropped to 224. The files are in the page cache. The
loaders are timed in turn; values are medians. *normalized*: float32 batches; all others yield uint8 batches,
ready to be copied to the device. ImageFolder uses a DataLoader with one worker process per core (on one
core: none). JPEG: the original encoded images. arrays, raw: pixels that were decoded, resized and cropped
beforehand.
"""
PACKING = """## Packing

`hardness pack` compared with one pass of ImageFolder and DataLoader (uint8), both with one process per
core. KB: the mean size of an image.

| pixels | images | ImageFolder, images/s | pack, images/s | ratio | JPEG, KB | packed, KB |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""
EPOCH = """
## A training epoch

| network | pixels | device | images | seconds, from memory | seconds, from packed | ratio |
| --- | ---: | --- | ---: | ---: | ---: | ---: |"""
REAL = """
## Real images

| command | total seconds | output |
| --- | ---: | --- |"""

if __name__ == "__main__":
    main()

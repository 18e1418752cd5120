"""Image files, wherever they lie -> a data set of pixels: sizes, decoding, keeping them in memory."""

import io
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as F

from hardness.config import Data
from hardness.console import progress, say, warn
from hardness.datasets.base import DataSet, Images, ImageSet
from hardness.distributed import launch
from hardness.errors import UserError

# Of ImageNet, in RGB order; as torchvision's recipes.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_DECODE_BATCH = 64


class TarMember(NamedTuple):
    """A file inside a tar, read where it lies."""

    tar: str
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.tar}:{self.name}"


Place = str | TarMember
Sample = tuple[Place, int]
"""Where an image lies, and its label."""


def open_place(place: Place) -> str | BinaryIO:
    """What Pillow opens."""
    if isinstance(place, str):
        return place
    with open(place.tar, "rb") as file:  # noqa: PTH123
        file.seek(place.offset)
        return io.BytesIO(file.read(place.size))


def from_files(
    train: list[Sample],
    validation: list[Sample],
    class_names: list[str],
    key_of: Callable[[Place], str],
    config: Data,
    *,
    model: str,
    workers: int,
    imagenet_sizes: bool = False,
) -> DataSet:
    """Choose the image size, and decode once where the pixels fit in memory."""
    size = config.size or _default_size(train, model, imagenet_sizes)
    # ImageNet's recipe: short side to 256, centre 224 of it; Inception takes all 299.
    resize = round(size * 256 / 224) if imagenet_sizes and model != "inception_v3" else size
    num_bytes = (len(train) + len(validation)) * 3 * size * size
    # Every process of this machine keeps its own.
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / launch().num_local_ranks
    keep = config.cache == "host" or (config.cache == "auto" and num_bytes <= memory / 4)
    kept = f"kept in memory ({num_bytes / 2**30:.1f} GiB)" if keep else "decoded every epoch"
    say(f"images: short side to {resize}, centre {size} x {size}, {kept}")

    def image_set(samples: list[Sample]) -> ImageSet:
        files = ImageFiles(tuple(path for path, _ in samples), resize, size)
        images, unreadable = files, np.empty(0, np.int64)
        if keep or config.on_bad_image == "null":
            images, unreadable = _decode(files, workers, keep, config.on_bad_image)
        if len(unreadable) == len(samples):
            raise UserError(f"a readable image beside {samples[0][0]}", "none", "check the files")
        labels = torch.tensor([label for _, label in samples])
        keys = [key_of(place) for place, _ in samples]
        return ImageSet(images, keys, labels, labels, unreadable)

    return DataSet(
        train=image_set(train),
        validation=image_set(validation),
        class_names=class_names,
        image_shape=(3, size, size),
        mean=MEAN,
        std=STD,
    )


def read_image(place: Place, resize: int, crop: int) -> Tensor:
    """uint8 (3, crop, crop): upright, RGB, short side resized to ``resize``, centre cropped.

    Raises ``UserError`` with the path where the file is no whole image.
    """
    try:
        with Image.open(open_place(place)) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):
                # 16 bits of gray, which convert() would clip to white.
                image = Image.fromarray((np.asarray(image, np.int64).clip(0, 65535) >> 8).astype(np.uint8))
            if "transparency" in image.info:
                image = image.convert("RGBA")
            image = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        do = "mend or remove it, or leave it out with --on-bad-image null"
        raise UserError("a readable image", f"{place} ({error})", do) from error
    if image.size != (crop, crop) or resize != crop:
        image = F.center_crop(F.resize(image, [resize], antialias=True), [crop, crop])
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@dataclass(frozen=True)
class ImageFiles:
    """Pixels read from files: ``files[ids]`` is uint8 (B, 3, crop, crop)."""

    paths: Sequence[Place]
    resize: int
    crop: int

    def __getitem__(self, ids: Sequence[int]) -> Tensor:
        return torch.stack([read_image(self.paths[i], self.resize, self.crop) for i in ids])


class _TryRead(torch.utils.data.Dataset):
    def __init__(self, images: Images, batches: Sequence[range]):
        self.images, self.batches = images, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> tuple[list[int], Tensor, dict[int, UserError]]:
        images, errors = {}, {}
        for index in self.batches[number]:
            try:
                images[index] = self.images[[index]]
            except UserError as error:
                errors[index] = error
        # One tensor a batch: each that a worker sends takes a file descriptor.
        return list(images), torch.cat(list(images.values())) if images else torch.empty(0), errors


def read_in_order(images: Images, first: int, last: int, workers: int, borders: int = 0) -> DataLoader:
    """Batches of (positions, their images, the errors of those that can't be read), read by ``workers``.

    Of the images at ``first`` to ``last`` - 1; with ``borders``, no batch goes across a multiple of it.
    """
    starts = set(range(first, last, _DECODE_BATCH))
    if borders:
        starts |= set(range(-(-first // borders) * borders, last, borders))
    batches = [range(start, end) for start, end in itertools.pairwise([*sorted(starts), last])]
    reader = _TryRead(images, batches)
    return DataLoader(reader, batch_size=None, num_workers=workers, generator=torch.Generator())


def leave_out(errors: dict[int, UserError], on_bad_image: str) -> list[int]:
    """Which images to leave out, each with a warning; or stop at the first."""
    for error in errors.values():
        if on_bad_image == "stop":
            raise error
        warn(f"left out: {error.args[1]}")
    return list(errors)


def _decode(
    files: ImageFiles, workers: int, keep: bool, on_bad_image: str
) -> tuple[Tensor | ImageFiles, np.ndarray]:
    """Read every file once -> (the pixels if ``keep``, else ``files``; the ids of the unreadable)."""
    size = (len(files.paths) if keep else 0, 3, files.crop, files.crop)
    pixels = torch.zeros(size, dtype=torch.uint8)
    batches = read_in_order(files, 0, len(files.paths), workers)
    unreadable = []
    for positions, images, errors in progress(batches, len(batches), "reading images"):
        unreadable += leave_out(errors, on_bad_image)
        if keep and positions:
            pixels[positions] = images
    return (pixels if keep else files), np.array(unreadable, np.int64)


def hold_out(samples: list, fraction: float) -> tuple[list, list]:
    """A fixed stratified cut into (train, validation), each in the canonical order."""
    labels = [label for _, label in samples]
    try:
        train, held = train_test_split(
            np.arange(len(samples)), test_size=fraction, random_state=0, stratify=labels
        )
    except ValueError as error:
        raise UserError(
            "images of every class on both sides of --val-fraction", str(error), "choose another fraction"
        ) from error
    return [samples[i] for i in np.sort(train)], [samples[i] for i in np.sort(held)]


def _default_size(samples: list[Sample], model: str, imagenet_sizes: bool) -> int:
    """The recipe's, or the short side of the first image that opens, at most 224."""
    if model == "inception_v3":
        return 299
    if imagenet_sizes:
        return 224
    for path, _ in samples:
        try:
            with Image.open(open_place(path)) as image:
                return min(*image.size, 224)
        except OSError:
            continue
    raise UserError("a readable image", f"{samples[0][0]} and none after it", "check the files")

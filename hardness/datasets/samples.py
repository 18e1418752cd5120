"""Lists of pictures with their labels -> a data set: sizes, reading in order, keeping pixels in memory."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from rich import filesize
from sklearn.model_selection import train_test_split
from torch import Tensor

from hardness.config import Data
from hardness.console import progress, warn
from hardness.datasets.ahead import ahead
from hardness.datasets.base import DataSet, Images, ImageSet
from hardness.datasets.cache import host_memory
from hardness.datasets.decoding import UNREADABLE, ImageFiles, Place, size_of
from hardness.datasets.pixels import HostPixels
from hardness.errors import UserError

# Of ImageNet, in RGB order; as torchvision's recipes.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_DECODE_BATCH = 64

Sample = tuple[Place, int]
"""Where an image lies, and its label."""


def from_samples(
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
    memory = host_memory()
    if config.cache in ("host", "device") and num_bytes > memory:
        expected, found = f"{filesize.decimal(num_bytes)} of memory", filesize.decimal(memory)
        do = "leave it out, or run `hardness pack` first"
        raise UserError(f"{expected} for --cache {config.cache}", found, do)
    fits = num_bytes <= memory / 4
    keep = config.cache in ("host", "device") or (config.cache == "auto" and fits)

    def image_set(samples: list[Sample]) -> ImageSet:
        files = ImageFiles(tuple(place for place, _ in samples), resize, size)
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
        transform=f"short side to {resize}, centre {size} x {size}",
    )


Read = tuple[list[int], Tensor, dict[int, UserError]]
"""Positions, their images, and the errors of those beside them that can't be read."""


def read_in_order(
    images: Images, first: int, last: int, workers: int, borders: int | None = None
) -> Iterator[Read]:
    """The images at ``first`` to ``last`` - 1, a few at a time, decoded by ``workers`` threads.

    With ``borders``, none come together across a multiple of it. Decoders run without Python's lock, so
    that threads are faster here than processes, which would have to send what they have read.
    """
    starts = {*range(first, last, _DECODE_BATCH), *range(0, last, borders or last)}
    bounds = [*sorted(start for start in starts if start >= first), last]
    batches = [range(start, end) for start, end in itertools.pairwise(bounds)]
    threads = max(1, workers)
    return ahead(partial(_try_read, images), batches, threads=threads, depth=2 * threads)


def _try_read(images: Images, batch: range) -> Read:
    try:
        return list(batch), images[batch], {}
    except UserError:
        # Not all of them.
        found, errors = {}, {}
    for index in batch:
        try:
            found[index] = images[[index]]
        except UserError as error:
            errors[index] = error
    return list(found), torch.cat(list(found.values())) if found else torch.empty(0), errors


def leave_out(errors: dict[int, UserError], on_bad_image: str) -> list[int]:
    """Which images to leave out, each with a warning; or stop at the first."""
    for error in errors.values():
        if on_bad_image == "stop":
            raise error
        warn(f"left out: {error.args[1]}")
    return list(errors)


def _decode(
    files: ImageFiles, workers: int, keep: bool, on_bad_image: str
) -> tuple[HostPixels | ImageFiles, np.ndarray]:
    """Read every file once -> (the pixels if ``keep``, else ``files``; the ids of the unreadable)."""
    pixels = np.zeros((len(files.places) if keep else 0, files.crop, files.crop, 3), np.uint8)
    unreadable = []

    def read() -> Iterator[int]:
        for positions, images, errors in read_in_order(files, 0, len(files.places), workers):
            unreadable.extend(leave_out(errors, on_bad_image))
            if keep and positions:
                pixels[positions] = images.permute(0, 2, 3, 1).numpy()
            yield from (*positions, *errors)

    for _ in progress(read(), len(files.places), "reading images"):
        pass
    return (HostPixels([pixels], len(pixels)) if keep else files), np.array(unreadable, np.int64)


def cut(
    train: list[Sample], validation: list[Sample], val_fraction: float | None, place: str, where: str
) -> tuple[list[Sample], list[Sample]]:
    """(train, validation) as they are, or cut from the former by ``--val-fraction``; neither is empty.

    ``where`` in ``place`` validation images would have been found.
    """
    if not train:
        raise UserError(f"training images in {place}", "validation images alone", "match the others as well")
    if val_fraction is not None and validation:
        found = f"some, and --val-fraction {val_fraction}"
        raise UserError(f"no validation images in {place}", found, "leave out --val-fraction")
    if val_fraction is not None:
        train, validation = hold_out(train, val_fraction)
    if not validation:
        do = "match those as well, or pass --val-fraction 0.1"
        raise UserError(f"validation images in {place}, {where}", "none", do)
    return train, validation


def hold_out(samples: list, fraction: float) -> tuple[list, list]:
    """A fixed stratified cut into (train, validation), each in the canonical order."""
    labels = [label for _, label in samples]
    try:
        train, held = train_test_split(
            np.arange(len(samples)), test_size=fraction, random_state=0, stratify=labels
        )
    except ValueError as error:
        do = "choose another fraction"
        raise UserError("images of every class on both sides of --val-fraction", str(error), do) from error
    return [samples[i] for i in np.sort(train)], [samples[i] for i in np.sort(held)]


def _default_size(samples: list[Sample], model: str, imagenet_sizes: bool) -> int:
    """The recipe's, or the short side of the first image that opens, at most 224."""
    if model == "inception_v3":
        return 299
    if imagenet_sizes:
        return 224
    for place, _ in samples:
        try:
            return min(*size_of(place), 224)
        except UNREADABLE:
            continue
    raise UserError("a readable image", f"{samples[0][0]} and none after it", "check the files")

"""From lists of labeled images to a data set: parts, image size, reading in order, caching in memory."""

import itertools
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from rich import filesize
from sklearn.model_selection import train_test_split
from torch import Tensor

from hardness.config import Data
from hardness.console import progress, warn
from hardness.datasets.cache import host_memory
from hardness.datasets.decoding import ImageFiles, ImageSource, color, has_shades, no_readable_image
from hardness.datasets.deep import Range
from hardness.datasets.examples import DataSet, Examples, InputStore
from hardness.datasets.found import Notes, a_few, duplicate_key, first_of, no_images, two_validation_sets
from hardness.datasets.images import ImageAdapter
from hardness.datasets.pixels import HostPixels
from hardness.datasets.source import Found, Sample
from hardness.datasets.survey import common_size, range_of, value_ranges
from hardness.errors import UserError
from hardness.parts import TEST, TRAIN, held_out
from hardness.prefetch import prefetch
from hardness.resources import Resources

# Of ImageNet, in RGB order, as in torchvision's recipes.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_DECODE_BATCH = 64


def from_found(
    found: Found, config: Data, model: str, resources: Resources, imagenet_sizes: bool = False
) -> DataSet:
    """The data set of the images that a source has found.

    Chooses the validation set, the image size and the range of values, and decodes all images now if their
    pixels fit in memory. Raises ``UserError`` if there are no training or no validation images.
    """
    train, validation, sources = _assign(found, config)
    _check_names(train, validation, found.class_names)
    workers, notes = resources.workers, found.notes
    size = config.size or _default_size(train, model, workers, imagenet_sizes, notes)
    # ImageNet's recipe: short side to 256, center crop of 224; Inception uses all 299.
    resize = round(size * 256 / 224) if imagenet_sizes and model != "inception_v3" else size
    keep = _keeps(config, host_memory(resources.ranks), (len(train) + len(validation)) * 3 * size * size)
    pixel_range = _pixel_range(train, validation, config, workers, notes)
    transform = f"short side to {resize}, centre {size} x {size}"
    if pixel_range not in (None, (0, 255)):
        transform += f", values {pixel_range[0]:g} to {pixel_range[1]:g} to 8 bits"
    if config.background != "white":
        transform += f", on {config.background}"

    def examples(samples: list[Sample]) -> Examples:
        encoded = tuple(sample.image for sample in samples)
        files = ImageFiles(encoded, resize, size, color(config.background), pixel_range)
        images, unreadable = files, np.empty(0, np.int64)
        if keep or config.on_bad_image == "null":
            images, unreadable = _decode(files, workers, keep, config.on_bad_image)
        if len(unreadable) == len(samples):
            _, _, errors = _try_read(files, range(1))
            raise no_readable_image(len(samples), errors[0])
        labels = torch.tensor([sample.label for sample in samples])
        return Examples(images, [sample.key for sample in samples], labels, labels, unreadable)

    adapter = ImageAdapter((3, size, size), MEAN, STD, transform, pixel_range)
    return DataSet(examples(train), examples(validation), found.class_names, adapter, sources, notes)


def _assign(found: Found, config: Data) -> tuple[list[Sample], list[Sample], dict[str, list[str]]]:
    """(training, validation) samples, neither empty, and the files or folders of each part."""
    parts = {part: samples for part, samples in found.parts.items() if samples}
    held = held_out(parts)
    train, validation = parts.get(TRAIN, []), parts.get(held, [])
    names = {part: list(dict.fromkeys(each.source for each in samples)) for part, samples in parts.items()}
    if not parts:
        raise no_images(config.data, "Check the files.")
    if not train:
        sentence = "{data} has no training images, only images for validation or test ({names})."
        values = {"data": config.data, "names": a_few(names[held])}
        raise UserError("no-training-images", sentence, "Include the training files in --data.", **values)
    if config.val_fraction is not None and validation:
        raise two_validation_sets(config.val_fraction, config.data, names[held])
    sources = {"train": names[TRAIN], "validation": names.get(held, []), "left_out": [*found.left_out]}
    if config.val_fraction is not None:
        ids = hold_out(np.array([sample.label for sample in train]), config.val_fraction)
        train, validation = ([train[i] for i in part] for part in ids)
        sources["validation"] = [f"{config.val_fraction:g} of train, held out"]
    if not validation:
        sentence = "{data} has no validation images, only training images ({names})."
        hint = "Add val or validation to the name of a file or folder, or pass --val-fraction 0.1."
        values = {"data": config.data, "names": a_few(names[TRAIN])}
        raise UserError("no-validation-images", sentence, hint, **values)
    line = f"{len(train):,} training images ({a_few(sources['train'])}), "
    line += f"{len(validation):,} validation images ({a_few(sources['validation'])})"
    if held != TEST:
        sources["left_out"] += names.get(TEST, [])
    if sources["left_out"]:
        line += f"; test images are not used ({a_few(sources['left_out'])})"
    found.notes.say(line)
    return train, validation, sources


def _check_names(train: list[Sample], validation: list[Sample], class_names: list[str]) -> None:
    """Raise ``UserError`` unless names are valid UTF-8 and keys are unique."""
    for name in itertools.chain(class_names, (each.key for each in itertools.chain(train, validation))):
        try:
            name.encode()
        except UnicodeEncodeError as error:
            sentence, hint = "The file or folder name {name} is not valid UTF-8.", "Rename it."
            raise UserError("name-not-utf8", sentence, hint, name=ascii(name)) from error
    for samples in (train, validation):
        seen: dict[str, ImageSource] = {}
        for sample in samples:
            if (first := seen.setdefault(sample.key, sample.image)) is not sample.image:
                raise duplicate_key(sample.image, first)


def _keeps(config: Data, memory: int, num_bytes: int) -> bool:
    """Are the pixels kept in memory?"""
    if config.cache in ("host", "device") and num_bytes > memory:
        sentence = "--cache {cache} needs {needed} of memory, but this machine has {available} per process."
        hint = "Remove it, or run `hardness pack` first."
        values = {"needed": filesize.decimal(num_bytes), "available": filesize.decimal(memory)}
        raise UserError("not-enough-memory", sentence, hint, cache=config.cache, **values)
    return config.cache in ("host", "device") or (config.cache == "auto" and num_bytes <= memory / 4)


def _pixel_range(
    train: list[Sample], validation: list[Sample], config: Data, workers: int, notes: Notes
) -> Range | None:
    """The values of images of more than 8 bits that become 0 and 255: as configured, or as in training."""
    if config.pixel_range is not None:
        return config.pixel_range
    for part, samples in (("training", train), ("validation", validation)):
        ranges = value_ranges([sample.image for sample in samples], workers)
        if pixel_range := range_of(ranges):
            many, (low, high) = f"{(~np.isnan(ranges[:, 0])).sum():,} {part} images", pixel_range
            notes.say(f"{many} have more than 8 bits: values {low:g} to {high:g} are scaled to 0..255")
            return pixel_range
    return None


Read = tuple[list[int], Tensor, dict[int, UserError]]
"""Positions, their images, and the errors of positions that cannot be read."""


def read_in_order(
    images: InputStore, first: int, last: int, workers: int, borders: int | None = None
) -> Iterator[Read]:
    """The images at ``first`` to ``last`` - 1, in batches, decoded by ``workers`` threads.

    With ``borders``, no batch spans a multiple of it. Decoders release Python's global lock, so threads are
    faster here than processes, which would have to send the pixels.
    """
    starts = {*range(first, last, _DECODE_BATCH), *range(0, last, borders or last)}
    bounds = [*sorted(start for start in starts if start >= first), last]
    batches = [range(start, end) for start, end in itertools.pairwise(bounds)]
    return prefetch(partial(_try_read, images), batches, workers)


def _try_read(images: InputStore, batch: range) -> Read:
    try:
        return list(batch), images[batch], {}
    except UserError:
        found, errors = {}, {}
    for index in batch:
        try:
            found[index] = images[[index]]
        except UserError as error:
            errors[index] = error
    return list(found), torch.cat(list(found.values())) if found else torch.empty(0), errors


def leave_out(errors: dict[int, UserError], on_bad_image: str) -> list[int]:
    """The images to skip, each with a warning; with ``on_bad_image`` "stop", raise the first error."""
    for error in errors.values():
        if on_bad_image == "stop":
            raise error
        warn(f"skipped unreadable image {error.values['path']} ({error.values['reason']})")
    return list(errors)


def flattened(files: InputStore, positions: Sequence[int], images: Tensor) -> list[int]:
    """Positions of images of one color whose files have several. images: uint8 (B, C, H, W)."""
    if not (isinstance(files, ImageFiles) and positions):
        return []
    pixels = images.permute(0, 2, 3, 1).numpy().reshape(len(images), -1, images.shape[1])
    # For most images a few pixels suffice.
    some = pixels[:, :: max(1, pixels.shape[1] // 16)]
    maybe = np.flatnonzero((some == some[:, :1]).all((1, 2)))
    return [
        positions[i]
        for i in maybe
        if (pixels[i] == pixels[i, 0]).all() and has_shades(files.sources[positions[i]])
    ]


def warn_of_flattened(files: InputStore, flat: Sequence[int]) -> None:
    if flat:
        warn(
            f"images that became one color, though their files have several: "
            f"{first_of([files.sources[i] for i in flat])}; check --background, --pixel-range and --size"
        )


def _decode(
    files: ImageFiles, workers: int, keep: bool, on_bad_image: str
) -> tuple[HostPixels | ImageFiles, np.ndarray]:
    """Read every file once: (the pixels if ``keep``, else ``files``; the ids of unreadable images)."""
    pixels = np.zeros((len(files.sources) if keep else 0, files.crop, files.crop, 3), np.uint8)
    unreadable, flat = [], []

    def read() -> Iterator[int]:
        for positions, images, errors in read_in_order(files, 0, len(files.sources), workers):
            unreadable.extend(leave_out(errors, on_bad_image))
            flat.extend(flattened(files, positions, images))
            if keep and positions:
                pixels[positions] = images.permute(0, 2, 3, 1).numpy()
            yield from (*positions, *errors)

    for _ in progress(read(), len(files.sources), "reading images"):
        pass
    warn_of_flattened(files, flat)
    return (HostPixels([pixels], len(pixels)) if keep else files), np.array(unreadable, np.int64)


def hold_out(labels: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """A fixed stratified split of the positions of ``labels`` (N,) into (train, held out), both sorted.

    Raises ``UserError`` if a class would be in one part only.
    """
    try:
        parts = train_test_split(np.arange(len(labels)), test_size=fraction, random_state=0, stratify=labels)
    except ValueError as error:
        sentence = "--val-fraction {val_fraction} does not put every class in both sets ({reason})."
        hint, values = "Choose another fraction.", {"val_fraction": fraction, "reason": str(error)}
        raise UserError("val-fraction-too-extreme", sentence, hint, **values) from error
    train, held = map(np.sort, parts)
    return train, held


def _default_size(samples: list[Sample], model: str, workers: int, imagenet_sizes: bool, notes: Notes) -> int:
    """The size of the recipe, or the most common one."""
    if model == "inception_v3":
        return 299
    if imagenet_sizes:
        return 224
    size, warning = common_size([sample.image for sample in samples], workers)
    if warning:
        notes.warn(warning)
    return size

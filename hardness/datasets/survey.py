"""Image sizes and value ranges of a data set, found before its images are decoded."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hardness.console import progress
from hardness.datasets.decoding import (
    ImageSource,
    is_named_eight_bits,
    no_readable_image,
    short_side,
    value_range,
)
from hardness.datasets.deep import HEAD, Range, full_range, may_be_deep
from hardness.errors import UserError
from hardness.prefetch import prefetch

_LARGEST = 224
_NUM_SAMPLED = 1000
_BATCH = 256


def common_size(sources: Sequence[ImageSource], workers: int) -> tuple[int, str | None]:
    """The most common short side in pixels, at most 224, and a warning if sizes differ a lot.

    Uses at most a thousand images, evenly spaced. Raises ``UserError`` if none can be read.
    """
    step = -(-len(sources) // _NUM_SAMPLED)
    found = _of_each(sources[::step], short_side, workers, "reading image sizes")
    sides = [side for side in found if side] or [_first_side(sources)]
    counts = Counter(min(side, _LARGEST) for side in sides)
    # If several are equally common, the largest: shrinking loses less than enlarging makes up.
    size = max(counts, key=lambda side: (counts[side], side))
    smallest, largest = min(sides), max(sides)
    differs = 2 * smallest <= size or (size < _LARGEST and largest >= 2 * size)
    warning = f"image sizes differ (short sides of {smallest} to {largest} pixels): "
    return size, warning + f"all are resized to {size} (set with --size)" if differs else None


def value_ranges(sources: Sequence[ImageSource], workers: int) -> np.ndarray:
    """float64 (N, 2): smallest and largest value of each image of more than 8 bits; NaN for all others.

    Also NaN for unreadable images, which raise an error later. If no image of an evenly spaced sample can
    have more than 8 bits, the others are not checked: one that does raises an error when it is read.
    """
    found = np.full((len(sources), 2), np.nan)
    maybe = [source for source in sources if not is_named_eight_bits(source)]
    sample = maybe[:: -(-len(maybe) // _NUM_SAMPLED) or 1]
    if not any(_of_each(sample, _may_be_deep, workers, "checking bit depths")):
        return found
    # Of all images, whatever their names imply.
    for i, each in enumerate(_of_each(sources, value_range, workers, "reading pixel values")):
        if each is not None:
            found[i] = each
    return found


def range_of(ranges: np.ndarray) -> Range | None:
    """The range of all images in ``value_ranges``: from 0, or the minimum if negative, to the maximum."""
    known = ranges[~np.isnan(ranges[:, 0])]
    return full_range(known[:, 0].min().item(), known[:, 1].max().item()) if len(known) else None


def _first_side(sources: Sequence[ImageSource]) -> int:
    """Short side of the first readable image."""
    if side := next(filter(None, (_try(short_side, source) for source in sources)), None):
        return side
    try:
        return short_side(sources[0])
    except UserError as error:
        raise no_readable_image(len(sources), error) from error


def _may_be_deep(source: ImageSource) -> bool:
    return may_be_deep(source.read(HEAD))


def _try(measure: Callable, source: ImageSource) -> Any:
    try:
        return measure(source)
    # Reading it later raises the error.
    except Exception:
        return None


def _of_each(sources: Sequence[ImageSource], measure: Callable, workers: int, label: str) -> list:
    """``measure(source)`` for each in order, computed by threads; None if it raises."""

    def measured(batch: Sequence[ImageSource]) -> list:
        return [_try(measure, source) for source in batch]

    batches = [sources[first : first + _BATCH] for first in range(0, len(sources), _BATCH)]
    found = itertools.chain.from_iterable(prefetch(measured, batches, workers))
    return list(progress(found, len(sources), label))

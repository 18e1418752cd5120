"""Image sizes and value ranges of a data set, found before its images are decoded."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from hardness.console import progress
from hardness.datasets.ahead import ahead
from hardness.datasets.decoding import Place, is_named_eight_bits, size_of, value_range
from hardness.datasets.deep import HEAD, Range, full_range, may_be_deep
from hardness.errors import UserError

_LARGEST = 224
_NUM_SAMPLED = 1000
_BATCH = 256


def common_size(places: Sequence[Place], workers: int) -> tuple[int, str | None]:
    """The most common short side in pixels, at most 224, and a warning if sizes differ a lot.

    Uses at most a thousand images, evenly spaced. Raises ``UserError`` if none can be read.
    """
    step = -(-len(places) // _NUM_SAMPLED)
    found = _of_each(places[::step], _short_side, workers, "reading image sizes")
    sides = [side for side in found if side is not None] or [_first_side(places)]
    counts = Counter(min(side, _LARGEST) for side in sides)
    # If several are equally common, the largest: shrinking loses less than enlarging makes up.
    size = max(counts, key=lambda side: (counts[side], side))
    smallest, largest = min(sides), max(sides)
    differs = 2 * smallest <= size or (size < _LARGEST and largest >= 2 * size)
    warning = f"image sizes differ (short sides of {smallest} to {largest} pixels): "
    return size, warning + f"all are resized to {size} (set with --size)" if differs else None


def value_ranges(places: Sequence[Place], workers: int) -> np.ndarray:
    """float64 (N, 2): smallest and largest value of each image of more than 8 bits; NaN for all others.

    Also NaN for unreadable images, which raise an error later. If no image of an evenly spaced sample can
    have more than 8 bits, the others are not checked: one that does raises an error when it is read.
    """
    found = np.full((len(places), 2), np.nan)
    maybe = [place for place in places if not is_named_eight_bits(place)]
    sample = maybe[:: -(-len(maybe) // _NUM_SAMPLED) or 1]
    if not any(_of_each(sample, _may_be_deep, workers, "checking bit depths")):
        return found
    # Of all images, whatever their names imply.
    for i, each in enumerate(_of_each(places, value_range, workers, "reading pixel values")):
        if each is not None:
            found[i] = each
    return found


def range_of(ranges: np.ndarray) -> Range | None:
    """The range of all images in ``value_ranges``: from 0, or the minimum if negative, to the maximum."""
    known = ranges[~np.isnan(ranges[:, 0])]
    return full_range(known[:, 0].min().item(), known[:, 1].max().item()) if len(known) else None


def _first_side(places: Sequence[Place]) -> int:
    """Short side of the first readable image."""
    if side := next(filter(None, map(partial(_try, _short_side), places)), None):
        return side
    try:
        return min(size_of(places[0]))
    except UserError as error:
        sentence = "None of the {num_images} images can be read; the first is {path} ({reason})."
        values = error.values | {"num_images": len(places)}
        raise UserError("no-readable-image", sentence, "Check the files.", **values) from error


def _short_side(place: Place) -> int:
    return min(size_of(place))


def _may_be_deep(place: Place) -> bool:
    return may_be_deep(place.read(HEAD))


def _try(measure: Callable, place: Place) -> Any:
    try:
        return measure(place)
    # Reading it later raises the error.
    except Exception:
        return None


def _of_each(places: Sequence[Place], measure: Callable, workers: int, label: str) -> list:
    """``measure(place)`` for each in order, computed by threads; None if it raises."""
    batches = [places[first : first + _BATCH] for first in range(0, len(places), _BATCH)]
    threads = max(1, workers)
    found = ahead(partial(_measure_all, measure), batches, threads=threads, depth=2 * threads)
    return list(progress(itertools.chain.from_iterable(found), len(places), label))


def _measure_all(measure: Callable, places: Sequence[Place]) -> list:
    return [_try(measure, place) for place in places]

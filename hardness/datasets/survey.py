"""A first look at the pictures, before they are read: how large they are, and which values they have."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

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
    """(pixels, a warning where sizes differ much): the most common short side, at most 224.

    Of a thousand pictures, evenly spaced, if there are more. Raises ``UserError`` where none can be read.
    """
    step = -(-len(places) // _NUM_SAMPLED)
    found = _of_each(places[::step], _short_side, workers, "looking at image sizes")
    sides = [side for side in found if side is not None] or [_first_side(places)]
    counts = Counter(min(side, _LARGEST) for side in sides)
    # Of equally common ones the largest: shrinking loses less than it would make up.
    size = max(counts, key=lambda side: (counts[side], side))
    least, most = min(sides), max(sides)
    differs = 2 * least <= size or (size < _LARGEST and most >= 2 * size)
    told = f"image sizes differ (short sides of {least} to {most} pixels): all are resized to {size} (--size)"
    return size, told if differs else None


def value_ranges(places: Sequence[Place], workers: int) -> np.ndarray:
    """float64 (N, 2): smallest and largest value of each picture of more than 8 bits; nan for all others.

    Also nan for those that can't be read, which are met again. If none of a sample, evenly spaced, may have
    more than 8 bits, the others are not looked at: one that has is refused when it is read.
    """
    found = np.full((len(places), 2), np.nan)
    maybe = [place for place in places if not is_named_eight_bits(place)]
    sample = maybe[:: -(-len(maybe) // _NUM_SAMPLED) or 1]
    if not any(_of_each(sample, _may_be_deep, workers, "looking for more than 8 bits")):
        return found
    # Of all, also where a name says otherwise.
    for i, each in enumerate(_of_each(places, _values, workers, "looking at pixel values")):
        if each is not None:
            found[i] = each
    return found


def range_of(ranges: np.ndarray) -> Range | None:
    """Over the pictures of ``value_ranges``: from 0, or the least value if negative, to the largest."""
    known = ranges[~np.isnan(ranges[:, 0])]
    return full_range(known[:, 0].min().item(), known[:, 1].max().item()) if len(known) else None


def _first_side(places: Sequence[Place]) -> int:
    """Of the first picture that opens."""
    if side := next(filter(None, map(_short_side, places)), None):
        return side
    try:
        return min(size_of(places[0]))
    except UserError as error:
        raise UserError(
            "a readable image", f"{error.args[1]}, and none after it", "check the files"
        ) from error


def _short_side(place: Place) -> int | None:
    try:
        return min(size_of(place))
    except UserError:
        return None


def _may_be_deep(place: Place) -> bool:
    try:
        return may_be_deep(place.read(HEAD))
    # It is met again, where it is read.
    except Exception:
        return False


def _values(place: Place) -> Range | None:
    try:
        return value_range(place)
    except UserError:
        return None


def _of_each(places: Sequence[Place], look: Callable, workers: int, label: str) -> list:
    """``look(place)`` of each in order, by threads."""
    batches = [places[first : first + _BATCH] for first in range(0, len(places), _BATCH)]
    threads = max(1, workers)
    found = ahead(partial(_look_at, look), batches, threads=threads, depth=2 * threads)
    return list(progress(itertools.chain.from_iterable(found), len(places), label))


def _look_at(look: Callable, places: Sequence[Place]) -> list:
    return [look(place) for place in places]

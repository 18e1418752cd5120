"""Near-duplicate images: copies, also when recompressed, brightened or shifted by a pixel, but not mirrored.

The hash is pHash's (C. Zauner, *Implementation and Benchmarking of Perceptual Image Hash Functions*, 2010): a
grey picture of 32 x 32 pixels, its discrete cosine transform, and a bit for each low frequency that is above
their median. Ours are those of 0 to 7 waves in each direction but the constant one; pHash takes 1 to 8, which
leaves out all that are purely horizontal or vertical, and has nothing to say of 8 in a picture of 8 pixels.
"""

import hashlib
import itertools
from collections.abc import Iterator
from functools import cache

import numpy as np
from scipy.fft import dct
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hardness.console import progress
from hardness.datasets.base import ImageSet
from hardness.datasets.samples import read_in_order

DISTANCE = 4
"""Bits in which the hashes of near-duplicates may differ; it is even, as half of the bits are set.

Of 2,000 images of Tiny-ImageNet it finds 97 % of the copies that are brightened by a fifth, 99.5 % of those
of JPEG quality 50, and 69 % of those shifted by one of 64 pixels (99 % by one of 224). Among 50,000 images it
finds 8 pairs, 5 of which are copies; the others are small things on plain ground. With 6 it would find 19 and
7, with 2 it would be 4 and 4, and a third of the shifted.
"""
_SIDE, _KEPT = 32, 8
_GREY = (0.299, 0.587, 0.114)
_FLAT = 16
"""A coefficient of a wave whose amplitude is one of 255 levels: a picture without any has no structure."""
_MANY = 2**20
"""Pairs that are held at a time."""


def clusters(images: ImageSet, workers: int) -> np.ndarray:
    """int (N,): examples with the same number are near-duplicates, perhaps by way of others.

    An image that can't be read is alone. Reads every image once, with ``workers`` threads.
    """
    hashes = np.zeros(len(images), np.uint64)
    is_read = np.zeros(len(images), bool)
    is_readable = np.isin(np.arange(len(images)), images.ids)

    def read() -> Iterator[int]:
        for positions, pixels, _ in read_in_order(images.images, 0, len(images), workers):
            if positions:
                hashes[positions] = perceptual_hashes(pixels.permute(0, 2, 3, 1).numpy())
                is_read[positions] = is_readable[positions]
            yield from positions

    for _ in progress(read(), len(images), "looking for near-duplicates"):
        pass
    found = np.arange(len(images)) + len(images)
    # Equal ones are one to the search, however many they are.
    distinct, which = np.unique(hashes[is_read], return_inverse=True)
    found[is_read] = near(distinct)[which]
    return found


def perceptual_hashes(images: np.ndarray) -> np.ndarray:
    """uint64 (B,) of uint8 images (B, H, W, C): 63 bits.

    A picture of one colour has no frequencies to compare, and all such would be alike: its hash is a digest
    of the colour, to the nearest level, which is far from those of all others.
    """
    batch, height, width, channels = images.shape
    grey = np.array(_GREY if channels == 3 else [1 / channels] * channels, np.float32)
    # The transform of the shrunk grey picture, columns first: every step is linear, and this one, which takes
    # bytes as they are, leaves little to the others.
    rows = np.einsum("kh,bhx->bkx", _basis(height), images.reshape(batch, height, width * channels))
    waves = (rows.reshape(batch, _KEPT, width, channels) @ grey) @ _basis(width).T
    # Rounded, or what is zero in a symmetric picture would be above or below it by the rounding of sums.
    waves = waves.reshape(batch, -1)[:, 1:].round(2)
    is_above = waves > np.median(waves, axis=1, keepdims=True)
    hashes = np.packbits(is_above, axis=1).view(np.uint64)[:, 0]
    for index in np.flatnonzero(np.abs(waves).max(1) < _FLAT):
        colour = images[index].mean((0, 1)).round().astype(np.uint8)
        hashes[index] = np.frombuffer(hashlib.blake2b(colour, digest_size=8).digest(), np.uint64)[0]
    return hashes


@cache
def _basis(size: int) -> np.ndarray:
    """float32 (8, size): the low frequencies of ``size`` pixels, shrunk (or grown) to 32 by areas."""
    edges = np.linspace(0, size, _SIDE + 1)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares = overlap.clip(0) * (_SIDE / size)
    return dct(shares, axis=0, norm="ortho")[:_KEPT].astype(np.float32)


def near(hashes: np.ndarray) -> np.ndarray:
    """int (N,) for uint64 (N,): the connected components of those at most ``DISTANCE`` bits apart.

    Of that many bands and one more, two such hashes agree in one at least: only those that do are compared.
    Memory is linear in N.
    """
    component = np.arange(len(hashes))
    held, num_held = [], 0
    for pairs in _close_pairs(hashes):
        held.append(pairs)
        num_held += pairs.shape[1]
        if num_held > _MANY:
            component, held, num_held = _joined(component, held), [], 0
    return _joined(component, held)


def _close_pairs(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """Positions, int (2, P), a few at a time; some of them come again."""
    bounds = np.linspace(0, 64, DISTANCE + 2).astype(np.uint64)
    for low, high in itertools.pairwise(bounds):
        band = (hashes >> low) & ((np.uint64(1) << (high - low)) - np.uint64(1))
        order = np.argsort(band, kind="stable")
        band, ordered = band[order], hashes[order]
        # Each with the next one, the second next, ... for as long as they agree in the band.
        first = np.arange(len(hashes))
        for step in itertools.count(1):
            first = first[first + step < len(hashes)]
            first = first[band[first] == band[first + step]]
            if not len(first):
                break
            differ = ordered[first] ^ ordered[first + step]
            for _ in range(DISTANCE):
                differ &= differ - np.uint64(1)  # one bit less, where there is any
            close = first[differ == 0]
            if len(close):
                yield np.stack([order[close], order[close + step]])


def _joined(component: np.ndarray, pairs: list[np.ndarray]) -> np.ndarray:
    """The components that are left when the positions of each pair are in one."""
    first, second = component[np.concatenate([np.empty((2, 0), int), *pairs], axis=1)]
    size = len(component)
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(size, size))
    return connected_components(graph, directed=False)[1][component]

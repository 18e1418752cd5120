"""Near-duplicate images are found, and nothing else."""

import io
import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from hardness.datasets import near_duplicates
from hardness.datasets.images import in_memory
from hardness.errors import UserError


@cache
def crops() -> list[np.ndarray]:
    """24 different crops of two photographs, uint8 (128, 128, 3)."""
    corners = itertools.product(load_sample_images().images, range(0, 299, 128), range(0, 511, 128))
    return [photo[row : row + 128, column : column + 128] for photo, row, column in corners]


def picture(seed, side=64) -> np.ndarray:
    """Smooth shapes with a little noise: uint8 (side, side, 3)."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(20, 200, (7, 7, 3), dtype=np.uint8))
    grain = generator.integers(0, 12, (side, side, 3), dtype=np.uint8)
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)) // 2 + 40 + grain


def plain(*color) -> np.ndarray:
    return np.broadcast_to(np.array(color, np.uint8), (64, 64, 3))


def recompressed(image) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file))


def image_set(*images):
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return in_memory(pixels, torch.zeros(len(images), dtype=torch.int64), "train")


def grouped(*images) -> list[list[int]]:
    """The clusters of two or more."""
    numbers = near_duplicates.clusters(image_set(*images), workers=0)
    members = [np.flatnonzero(numbers == number).tolist() for number in np.unique(numbers)]
    return sorted(group for group in members if len(group) > 1)


@pytest.mark.parametrize(
    ("changed", "minimum"),
    [
        (lambda image: image, 24),
        (lambda image: (image * 1.2).clip(0, 255).astype(np.uint8), 22),
        (lambda image: image // 2 + 40, 22),
        (lambda image: np.concatenate([image[:, :1], image[:, :-1]], axis=1), 20),
        (recompressed, 22),
    ],
    ids=["copy", "brightened by a fifth", "less contrast", "shifted by a pixel", "recompressed"],
)
def test_changed_copies_are_found_and_nothing_else(changed, minimum):
    images = crops()
    assert len(images) == 24
    assert grouped(*images) == []
    found = grouped(*images, *map(changed, images))
    assert all(other == one + 24 for one, other in found)
    assert len(found) >= minimum


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 64, 64), (3, 9, 40)])
def test_noise_has_no_near_duplicates(shape):
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1000, *shape), dtype=np.uint8))
    noise = in_memory(images, torch.zeros(1000, dtype=torch.int64), "train")
    assert len(np.unique(near_duplicates.clusters(noise, workers=2))) == 1000


def test_the_hash_agrees_with_scipys_transform_of_the_shrunk_image():
    image = picture(0, side=96)
    gray = image.astype(float) @ [0.299, 0.587, 0.114]
    small = gray.reshape(32, 3, 32, 3).mean((1, 3))
    waves = scipy.fft.dctn(small, norm="ortho")[:8, :8].ravel()[1:]
    bits = waves > np.median(waves)
    assert bits.sum() == 31
    assert near_duplicates.perceptual_hashes(image[None]) == np.packbits(bits).view(np.uint64)


def test_flat_images_match_only_the_same_color():
    grain = np.random.default_rng(0).integers(-1, 2, (64, 64, 3))
    grainy = (plain(90, 90, 90) + grain).astype(np.uint8)
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] + 60, (64, 64, 3))
    colors = [plain(level, level, level) for level in (0, 90, 91, 128, 255)]
    mixed = [plain(200, 0, 0), plain(0, 200, 0), plain(0, 0, 200)]
    assert grouped(*colors, *mixed, ramp, picture(0)) == []
    assert grouped(*colors, *mixed, ramp, plain(0, 200, 0), grainy) == [[1, 10], [6, 9]]


def test_zeros_of_symmetric_images_do_not_depend_on_rounding():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, 20:44] = 255
    others = [picture(seed) for seed in range(70)]
    assert grouped(stripes, *others, stripes, stripes.copy()) == [[0, 71, 72]]


def test_chains_form_one_cluster():
    bits = [0, 0b1111, 0b11111111, 0b11111 << 40, 0b11111 << 50]
    found = near_duplicates.near(np.array(bits, np.uint64))
    assert found[0] == found[1] == found[2]
    assert len(np.unique(found)) == 3


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 80), st.sampled_from([1, 2**20]))
def test_the_search_agrees_with_comparing_all_pairs(seed, size, held):
    generator = np.random.default_rng(seed)
    centres = generator.integers(0, 2**63, 8, dtype=np.uint64)
    hashes = centres[generator.integers(0, 8, size)]
    for _ in range(4):
        hashes = hashes ^ (np.uint64(1) << generator.integers(0, 64, size, dtype=np.uint64))
    component = np.arange(size)
    for one in range(size):
        for other in range(size):
            if int(hashes[one] ^ hashes[other]).bit_count() > near_duplicates.DISTANCE:
                continue
            component[component == component[other]] = component[one]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "_MANY", held)
        found = near_duplicates.near(hashes)
    assert ((found[:, None] == found) == (component[:, None] == component)).all()


def test_an_unreadable_image_is_in_no_cluster():
    class Broken:
        needs_decoding = True

        def __init__(self, images):
            self.images = images

        def __getitem__(self, ids):
            if 1 in ids:
                raise UserError("unreadable-image", "1.png cannot be read.", "Repair it.")
            return self.images[ids]

    same = image_set(*[picture(0)] * 4)
    for broken in (
        replace(same, inputs=Broken(same.inputs)),
        # In a pack, its pixels are black.
        replace(same, unreadable=np.array([1])),
    ):
        numbers = near_duplicates.clusters(broken, workers=0)
        assert numbers[0] == numbers[2] == numbers[3] != numbers[1]

"""Batches are copies that later batches never overwrite."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardness.datasets.pixels import HostPixels


def test_ids_are_gathered_across_shards():
    pixels = np.arange(7 * 4, dtype=np.uint8).reshape(7, 2, 2, 1)
    images = HostPixels([pixels[:3], pixels[3:6], pixels[6:]], num_rows=3)
    ids = [6, 0, 5, 3, 0, 2]
    assert torch.equal(images[ids], torch.from_numpy(pixels[ids]).permute(0, 3, 1, 2))
    with pytest.raises(IndexError, match=r"2\.\.7 are outside 0\.\.6"):
        images[[2, 7]]
    assert images[[]].shape == (0, 1, 2, 2)


@settings(max_examples=20)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_a_batch_in_use_is_not_overwritten(sizes, random):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 1), dtype=np.uint8)
    images, held = HostPixels([pixels], 9), []
    for size in sizes:
        ids = random.sample(range(9), size)
        batch = images[ids]
        # The batch itself, a slice of it, or a NumPy view of it.
        part = random.choice([batch, batch[:, :, 1:], batch.numpy()[::-1]])
        held.append((part, np.asarray(part).copy()))
        del batch, part
        if random.random() < 0.4:
            held.pop(random.randrange(len(held)))
        for part, contents in held:
            assert np.array_equal(part, contents)


def test_the_memory_of_a_freed_batch_is_reused():
    images = HostPixels([np.zeros((9, 4, 4, 1), np.uint8)], 9)
    first = images[[1, 2, 3]]
    place = first.data_ptr()
    assert images[[1, 2, 3]].data_ptr() != place
    del first
    assert images[[4, 5]].data_ptr() == place

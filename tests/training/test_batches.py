import itertools
import unittest.mock

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from hardness import distributed
from hardness.datasets.base import in_memory
from hardness.training.batches import Shuffled, cut, loader, read


@given(st.integers(1, 400), st.integers(1, 300))
def test_batches_hold_every_id_once_and_differ_by_at_most_one(num_examples, batch_size):
    batches = cut(np.arange(num_examples), batch_size)
    sizes = [len(batch) for batch in batches]
    assert sorted(itertools.chain(*batches)) == list(range(num_examples))
    assert len(batches) == max(1, round(num_examples / batch_size))
    assert max(sizes) - min(sizes) <= 1


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        shuffled = Shuffled(np.arange(50), 8, seed)
        shuffled.epoch = epoch
        assert len(shuffled) == len(list(shuffled))
        return list(itertools.chain(*shuffled))

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)
    assert sorted(order(0, 3)) == list(range(50))


def test_ids_belong_to_the_base_set_whatever_subset_is_read():
    pixels = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1)
    images = in_memory(pixels, torch.arange(10) % 3, "train")
    for some, labels, ids in read(loader(images, cut(np.array([7, 2, 9]), 2), 0), torch.device("cpu")):
        assert some.flatten().tolist() == ids.tolist()
        assert labels.tolist() == [value % 3 for value in ids.tolist()]


@given(st.integers(1, 60), st.integers(1, 30), st.integers(1, 5), st.integers(0, 9))
def test_a_batch_is_the_same_examples_whatever_the_number_of_ranks(num_examples, batch_size, ranks, seed):
    def batches(rank, ranks):
        with (
            unittest.mock.patch.object(distributed, "rank", return_value=rank),
            unittest.mock.patch.object(distributed, "num_ranks", return_value=ranks),
        ):
            shuffled = Shuffled(np.arange(num_examples), batch_size, seed)
            shuffled.epoch = 2
            slices = [distributed.my_slice(size) for size in shuffled.sizes]
            return list(zip(shuffled, slices, strict=True))

    alone = [batch for batch, _ in batches(0, 1)]
    by_rank = [batches(rank, ranks) for rank in range(ranks)]
    for batch, parts in zip(alone, zip(*by_rank, strict=True), strict=True):
        assert list(itertools.chain(*(part for part, _ in parts))) == batch
        for part, mine in parts:
            assert batch[mine] == part
        sizes = [len(part) for part, _ in parts]
        assert max(sizes) - min(sizes) <= 1

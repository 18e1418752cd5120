import gc
import itertools
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardness import datasets
from hardness.config import Data
from hardness.datasets.cache import on_device
from hardness.datasets.images import in_memory
from hardness.datasets.loader import Loader, Shuffled, batches_of
from hardness.errors import UserError
from hardness.ranks import Ranks
from tests.conftest import refused

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@given(st.integers(1, 400), st.integers(1, 300))
def test_batches_have_every_id_once_and_nearly_equal_sizes(num_examples, batch_size):
    batches = batches_of(np.arange(num_examples), batch_size)
    sizes = [len(batch) for batch in batches]
    assert sorted(itertools.chain(*batches)) == list(range(num_examples))
    assert len(batches) == max(1, round(num_examples / batch_size))
    assert max(sizes) - min(sizes) <= 1


def test_the_order_depends_only_on_seed_and_epoch():
    def order(seed, epoch):
        shuffled = Shuffled(np.arange(50), 8, seed)
        shuffled.epoch = epoch
        assert len(shuffled) == len(list(shuffled))
        return list(itertools.chain(*shuffled))

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)
    assert sorted(order(0, 3)) == list(range(50))


def test_subsets_keep_the_ids_of_the_base_set():
    pixels = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1)
    images = in_memory(pixels, torch.arange(10) % 3, "train")
    for some, labels, ids in Loader(images, batches_of(np.array([7, 2, 9]), 2)):
        assert some.flatten().tolist() == ids.tolist()
        assert labels.tolist() == [value % 3 for value in ids.tolist()]


@settings(max_examples=25)
@given(st.integers(1, 60), st.integers(1, 30), st.integers(1, 5), st.integers(0, 9))
def test_the_global_batch_does_not_depend_on_the_number_of_ranks(num_examples, batch_size, ranks, seed):
    def batches(rank, size):
        shuffled = Shuffled(np.arange(num_examples), batch_size, seed, Ranks(rank, size))
        shuffled.epoch = 2
        slices = [shuffled.ranks.slice(size) for size in shuffled.sizes]
        return list(zip(shuffled, slices, strict=True))

    alone = [batch for batch, _ in batches(0, 1)]
    by_rank = [batches(rank, ranks) for rank in range(ranks)]
    for batch, parts in zip(alone, zip(*by_rank, strict=True), strict=True):
        assert list(itertools.chain(*(part for part, _ in parts))) == batch
        for part, mine in parts:
            assert batch[mine] == part
        sizes = [len(part) for part, _ in parts]
        assert max(sizes) - min(sizes) <= 1


def rows(size=12, channels=3):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (50, channels, size, size), dtype=np.uint8)
    return in_memory(torch.from_numpy(pixels), torch.arange(50) % 7, "train"), torch.from_numpy(pixels)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
@pytest.mark.parametrize("placed", [False, True])
def test_a_loader_yields_images_labels_and_ids(device, placed):
    images, pixels = rows()
    if placed:
        images = replace(images, inputs=on_device(images.inputs, torch.device(device)))
    loader = Loader(images, Shuffled(images.ids, 8, seed=3), device)
    assert len(loader) == 6
    for epoch in (1, 2):
        loader.batches.epoch = epoch
        found = list(loader)
        assert [ids.tolist() for _, _, ids in found] == list(loader.batches)
        for some, labels, ids in found:
            assert some.device.type == labels.device.type == ids.device.type == device
            assert some.is_contiguous(memory_format=torch.channels_last)
            assert torch.equal(some.cpu(), pixels[ids.cpu()])
            assert torch.equal(labels, ids % 7)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_decode_image_files(image_folder, workers):
    data = datasets.load(Data(data=f"imagefolder:{image_folder}", cache="none"))
    loader = Loader(data.train, batches_of(data.train.ids, 5), workers=workers)
    assert loader.decodes
    for _ in range(2):
        found = list(loader)
        assert loader.waited > 0
        assert found[0][0].is_contiguous(memory_format=torch.channels_last)
        assert torch.cat([ids for _, _, ids in found]).tolist() == list(range(24))
        assert torch.equal(torch.cat([some for some, _, _ in found]), data.train.inputs[range(24)])


def test_an_unreadable_image_raises_when_its_batch_is_due(image_folder):
    data = datasets.load(Data(data=f"imagefolder:{image_folder}", cache="none"))
    code, path = "unreadable-image", str(image_folder / "train/dog/1.png")
    Path(path).write_text("no image")
    started, found = time.monotonic(), None
    try:
        list(Loader(data.train, batches_of(data.train.ids, 5), workers=1))
    except UserError as error:
        found = error.code, error.values["path"]
    assert found == (code, path)
    # No reference keeps the worker alive, which torch would stop only after 5 s.
    assert time.monotonic() - started < 5
    coming = iter(Loader(data.train, [[0], [1], [9]]))
    assert next(coming)[2].tolist() == [0]
    assert next(coming)[2].tolist() == [1]
    with refused(code, path=path):
        next(coming)


def test_leaving_a_loop_early_stops_the_threads():
    images, _ = rows()
    for _ in Loader(images, batches_of(images.ids, 2)):
        break
    gc.collect()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hardness-prefetch")]


def test_the_next_batches_are_prefetched():
    class Slow:
        requested: ClassVar[list] = []

        def __len__(self):
            return 50

        def __iter__(self):
            for number in range(50):
                self.requested.append(number)
                yield [number]

    images, _ = rows()
    coming = iter(Loader(images, Slow()))
    next(coming)
    deadline = time.monotonic() + 10
    while len(Slow.requested) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    # Three more than the one in use, but no further.
    time.sleep(0.05)
    assert Slow.requested == [0, 1, 2, 3]

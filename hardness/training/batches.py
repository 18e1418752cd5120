"""Which examples make a batch, and reading them.

The order of an epoch depends on seed and epoch alone.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hardness import distributed, seeding
from hardness.datasets import ImageSet
from hardness.datasets.packed import PackedImages
from hardness.errors import UserError

Batch = tuple[Tensor, Tensor, Tensor]
"""Images uint8 (B, C, H, W), given labels int64 (B,), example ids int64 (B,)."""


def num_batches(num_examples: int, batch_size: int) -> int:
    """round(N / batch_size), at least one."""
    return max(1, round(num_examples / batch_size))


def cut(ids: np.ndarray, batch_size: int) -> list[list[int]]:
    """Batches whose sizes differ by at most one; none of no ids."""
    parts = np.array_split(ids, num_batches(len(ids), batch_size))
    return [batch.tolist() for batch in parts if len(batch)]


class Shuffled:
    """A batch sampler: the ids in the order of ``(seed, epoch)``. Set ``epoch`` before each pass.

    Of many ranks each gets its slice of every batch, so a batch is the same examples however many there are.
    """

    def __init__(self, ids: np.ndarray, batch_size: int, seed: int):
        self.ids, self.batch_size, self.seed = ids, batch_size, seed
        self.epoch = 1

    def __len__(self) -> int:
        return num_batches(len(self.ids), self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = seeding.generator(self.seed, "order", self.epoch).permutation(self.ids)
        for batch in cut(order, self.batch_size):
            yield batch[distributed.my_slice(len(batch))]

    @property
    def sizes(self) -> list[int]:
        """Of the batches, over all ranks."""
        return [len(batch) for batch in cut(self.ids, self.batch_size)]


def loader(images: ImageSet, batches: Shuffled | list[list[int]], workers: int) -> DataLoader:
    """A loader of batches; pixels that are in memory or mapped into it need no worker processes."""
    num_workers = 0 if isinstance(images.images, Tensor | PackedImages) else workers
    return DataLoader(
        images,
        batch_sampler=batches,
        collate_fn=_as_it_is,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        # Its own, or the loader would draw from torch's global one, whose state dropout depends on.
        generator=torch.Generator(),
    )


def read(batches: DataLoader, device: torch.device) -> Iterator[Batch]:
    """Yield batches on the device. Raises the ``UserError`` of an image that can't be read."""
    for batch in batches:
        if isinstance(batch, UserError):
            raise batch
        images, labels, ids = (tensor.to(device, non_blocking=True) for tensor in batch)
        yield images, labels, ids


def _as_it_is(batch: Batch) -> Batch:
    return batch

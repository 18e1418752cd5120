"""Which examples form a batch, and prefetching batches to the device.

The order of an epoch depends only on seed and epoch.
"""

import contextlib
import itertools
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hardness import seeding
from hardness.datasets.examples import Examples, Inputs, each_tensor
from hardness.datasets.pixels import HostPixels
from hardness.errors import UserError
from hardness.prefetch import prefetch
from hardness.ranks import ALONE, Ranks

Batch = tuple[Inputs, Tensor, Tensor]
"""Inputs (images: uint8 (B, C, H, W)), given labels int64 (B,), example ids int64 (B,)."""
_PREFETCHED = 3


def num_batches(num_examples: int, batch_size: int) -> int:
    """round(N / batch_size), at least one."""
    return max(1, round(num_examples / batch_size))


def batches_of(ids: np.ndarray, batch_size: int) -> list[list[int]]:
    """Split the ids into batches whose sizes differ by at most one; no ids give no batches."""
    parts = np.array_split(ids, num_batches(len(ids), batch_size))
    return [batch.tolist() for batch in parts if len(batch)]


class Shuffled:
    """A batch sampler: the ids in the order given by ``(seed, epoch)``. Set ``epoch`` before each pass.

    Each rank gets its slice of every batch, so the global batch does not depend on the number of ranks.
    """

    def __init__(self, ids: np.ndarray, batch_size: int, seed: int = 0, ranks: Ranks = ALONE):
        self.ids, self.batch_size, self.seed, self.ranks = ids, batch_size, seed, ranks
        self.epoch = 1

    def __len__(self) -> int:
        return num_batches(len(self.ids), self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = seeding.generator(self.seed, "order", self.epoch).permutation(self.ids)
        for batch in batches_of(order, self.batch_size):
            yield batch[self.ranks.slice(len(batch))]

    @property
    def sizes(self) -> list[int]:
        """Batch sizes, summed over ranks."""
        return [len(batch) for batch in batches_of(self.ids, self.batch_size)]


class Loader:
    """Batches of examples on the device; the next ones are prefetched while the device computes.

    ``batches`` yields lists of ids, for example ``Shuffled(examples.ids, batch_size=256, seed=0)``. A pass
    yields ``(inputs, labels, example ids)``: images as uint8 (B, C, H, W) in channels-last layout, int64
    (B,), int64 (B,). A thread gathers decoded inputs (for a GPU into pinned memory); ``workers`` processes,
    kept for later passes, decode files.

    Raises ``UserError`` for an unreadable image.
    """

    def __init__(
        self,
        examples: Examples,
        batches: Collection[Sequence[int]],
        device: torch.device | str = "cpu",
        workers: int = 0,
    ):
        self.batches, self.device = batches, torch.device(device)
        self.waited = 0.0
        """Seconds that the consumer of the last or current pass has waited for batches."""
        is_cuda = self.device.type == "cuda"
        if is_cuda and isinstance(examples.inputs, HostPixels):
            examples = replace(examples, inputs=replace(examples.inputs, is_pinned=True))
        self._examples, self._decoder = examples, None
        if examples.inputs.needs_decoding:
            self._decoder = DataLoader(
                examples,
                batch_sampler=batches,
                collate_fn=_as_it_is,
                num_workers=workers,
                persistent_workers=workers > 0,
                pin_memory=is_cuda,
                # Otherwise the workers' seeds would be drawn from torch's global generator, and change
                # dropout.
                generator=torch.Generator(),
            )
        self._copies = _copy_stream(self.device) if is_cuda else None

    def __len__(self) -> int:
        return len(self.batches)

    @property
    def decodes(self) -> bool:
        """Are inputs decoded again in every pass?"""
        return self._decoder is not None

    def __iter__(self) -> Iterator[Batch]:
        self.waited = 0.0
        if self._copies is not None:
            # Pixels on the device were written by the current stream.
            self._copies.wait_stream(torch.cuda.current_stream(self.device))
        source = iter(self._decoder or map(self._examples.__getitems__, self.batches))
        coming = prefetch(self._next, itertools.repeat(source), depth=_PREFETCHED)
        with contextlib.closing(coming):
            while True:
                started = time.perf_counter()
                found = next(coming)
                self.waited += time.perf_counter() - started
                if found is None:
                    return
                yield self._arrived(*found)

    def _next(self, source: Iterator[Batch | UserError]) -> tuple[Batch, torch.cuda.Event | None] | None:
        """The next batch and the event that marks its arrival on the device; None at the end."""
        with torch.cuda.stream(self._copies):
            batch = next(source, None)
            if isinstance(batch, UserError):
                try:
                    raise batch
                finally:
                    # A cycle with this frame would keep the workers alive, and delay their shutdown by 5 s.
                    del batch
            if batch is None or self._copies is None:
                return batch and (batch, None)
            batch = tuple(each_tensor(partial(_to, self.device), values) for values in batch)
            return batch, self._copies.record_event()

    def _arrived(self, batch: Batch, event: torch.cuda.Event | None) -> Batch:
        if event is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(event)
            for values in batch:
                # The copy stream owns the memory: it must not reuse it before this stream is done.
                each_tensor(lambda tensor: tensor.record_stream(stream), values)
        return batch


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all loaders, since the allocator does not share freed memory between streams."""
    return torch.cuda.Stream(device)


def _to(device: torch.device, tensor: Tensor) -> Tensor:
    # A tensor that is already pinned is not copied by pin_memory().
    return tensor if tensor.is_cuda else tensor.pin_memory().to(device, non_blocking=True)


def _as_it_is(batch: Batch) -> Batch:
    return batch

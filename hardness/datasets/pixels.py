"""Decoded pixels: in memory, in memory-mapped files, or on a device."""

import math
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor


class _Memory:
    """Memory for batches, reused once a batch is no longer referenced.

    The kernel zeroes new pages, which takes as long as copying the batch.
    """

    def __init__(self):
        # A loader and its consumer use at most six at a time.
        self._free: deque[np.ndarray] = deque(maxlen=6)

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """An uninitialized uint8 array, in use as long as it or a tensor of it (not a NumPy view) exists."""
        size = math.prod(shape)
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(0, np.uint8)
        if memory.size < size:
            # With room for batches that are one image larger. NumPy requests huge pages, torch does not.
            memory = np.empty(size + size // 8, np.uint8)
        images = memory[:size].reshape(shape)
        weakref.finalize(images, self._free.append, memory).atexit = False
        return images


@dataclass(frozen=True, eq=False)
class HostPixels:
    """``images[ids]`` is uint8 (B, C, H, W), channels last, copied from memory or mapped files."""

    shards: Sequence[np.ndarray]
    """Each uint8 (num_rows, H, W, C); the last one may be shorter."""
    num_rows: int
    is_mapped: bool = False
    is_pinned: bool = False
    """Copy into pinned memory, from which a GPU can copy asynchronously."""
    needs_decoding: ClassVar[bool] = False
    _memory: _Memory = field(default_factory=_Memory, repr=False)

    def __len__(self) -> int:
        return self.num_rows * (len(self.shards) - 1) + len(self.shards[-1])

    @property
    def num_bytes(self) -> int:
        return sum(shard.nbytes for shard in self.shards)

    def __getitem__(self, ids: Sequence[int]) -> Tensor:
        ids = np.asarray(ids, np.int64)
        if len(ids) and not 0 <= ids.min() <= ids.max() < len(self):
            raise IndexError(f"example ids {ids.min()}..{ids.max()} are outside 0..{len(self) - 1}")
        shape = (len(ids), *self.shards[0].shape[1:])
        if self.is_pinned:
            images = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        else:
            images = torch.from_numpy(self._memory.take(shape))
        self._copy(ids, images.numpy())
        return images.permute(0, 3, 1, 2)

    def preview(self, example_id: int) -> Tensor:
        """uint8 (C, H, W)."""
        return self[[example_id]][0]

    def _copy(self, ids: np.ndarray, images: np.ndarray) -> None:
        shard, row = np.divmod(ids, self.num_rows)
        for number in np.unique(shard):
            where = np.flatnonzero(shard == number)
            if len(where) == len(ids):
                # "clip" copies directly into ``out``; "raise" would copy twice.
                np.take(self.shards[number], row, axis=0, out=images, mode="clip")
            else:
                images[where] = self.shards[number][row[where]]


@dataclass(frozen=True, eq=False)
class DevicePixels:
    """``images[ids]`` is uint8 (B, C, H, W), channels last, on the device that stores all images."""

    pixels: Tensor
    """uint8 (N, H, W, C)."""
    needs_decoding: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, ids: Sequence[int]) -> Tensor:
        positions = torch.as_tensor(ids, dtype=torch.int64)
        if self.pixels.is_cuda:
            positions = positions.pin_memory().to(self.pixels.device, non_blocking=True)
        return self.pixels.index_select(0, positions).permute(0, 3, 1, 2)

    preview = HostPixels.preview

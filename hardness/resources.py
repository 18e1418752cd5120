"""Where a run computes, and with how many processes."""

import os
from dataclasses import dataclass, field

import torch

from hardness.errors import UserError
from hardness.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Resources:
    """What a computation may use."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int = 0
    """Processes that decode inputs, of each rank."""
    ranks: Ranks = ALONE

    @classmethod
    def of(cls, device: str, workers: int | None = None, ranks: Ranks = ALONE) -> "Resources":
        """As the flags ``--device`` and ``--workers`` say."""
        return cls(resolve_device(device, ranks), num_workers(workers, ranks), ranks)

    def describe(self) -> str:
        if self.device.type == "cuda":
            return f"cuda: {torch.cuda.get_device_name(self.device)}"
        return f"cpu: {torch.get_num_threads()} threads"


def num_workers(workers: int | None = None, ranks: Ranks = ALONE) -> int:
    """By default one per core, at most 16."""
    if workers is not None:
        return workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores // ranks.local_size, 16) if cores > 1 else 0


def resolve_device(device: str, ranks: Ranks = ALONE) -> torch.device:
    """``auto``: CUDA if available. Each rank on a machine has a GPU of its own."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("no-cuda", "--device cuda: CUDA is not available.", "Use --device cpu.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    number, found = ranks.local_rank, torch.cuda.device_count()
    if device == "cuda" and number >= found:
        raise UserError(
            "too-few-gpus",
            "{processes} processes need as many GPUs; this machine has {gpus}.",
            "Lower --nproc-per-node.",
            processes=ranks.local_size,
            gpus=found,
        )
    return torch.device(device, number) if device == "cuda" else torch.device(device)

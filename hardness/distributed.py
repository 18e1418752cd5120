"""Many processes, one run: which of them this is, and what they find out together.

``torchrun`` starts them. Alone, there is one rank, and nothing here waits for anyone, or imports torch: where
it has not been imported there is no process group.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from hardness.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Answer = TypeVar("Answer")


def num_ranks() -> int:
    """Of the process group that we or a stranger's loop have started; 1 without."""
    dist = _dist()
    return dist.get_world_size() if dist else 1


def is_many() -> bool:
    return num_ranks() > 1


def rank() -> int:
    dist = _dist()
    return dist.get_rank() if dist else 0


def my_slice(length: int) -> slice:
    """This rank's part of ``length`` things in a row; parts differ by one at most."""
    mine, ranks = rank(), num_ranks()
    return slice(length * mine // ranks, length * (mine + 1) // ranks)


def reduce(values: Tensor, how: str = "sum") -> Tensor:
    """``values`` summed (``sum``) or the least of them (``min``) over the ranks, in place."""
    if is_many():
        operations = _dist().ReduceOp
        _dist().all_reduce(values, {"sum": operations.SUM, "min": operations.MIN}[how])
    return values


def follow_first(values: Iterable[Tensor]) -> None:
    """Give every rank the values of rank 0, in place."""
    if is_many():
        for each in values:
            _dist().broadcast(each, 0)


def wait_for_all() -> None:
    if is_many():
        _dist().barrier()


def first_decides(decide: Callable[[], Answer]) -> Answer:
    """Rank 0's answer, on every rank; its ``UserError`` is raised on every rank."""
    if not is_many():
        return decide()
    answer = None
    if rank() == 0:
        try:
            answer = decide()
        except UserError as error:
            answer = error
    answers = [answer]
    _dist().broadcast_object_list(answers)
    if isinstance(answers[0], UserError):
        raise answers[0]
    return answers[0]


@dataclass(frozen=True)
class Launch:
    """Which process of which this is, as ``torchrun`` says in the environment."""

    rank: int = 0
    num_ranks: int = 1
    local_rank: int = 0
    """Among those of this machine."""
    num_local_ranks: int = 1


def launch() -> Launch:
    """Raises ``UserError`` where the environment says half of it."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    found = {name: os.environ.get(name, "") for name in names}
    if found["WORLD_SIZE"] in ("", "1"):
        return Launch()
    if not all(value.isdigit() for value in found.values()):
        told = ", ".join(f"{name}={value}" for name, value in found.items())
        raise UserError("the environment as torchrun makes it", told, "start it with torchrun")
    return Launch(*map(int, found.values()))


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """The process group that ``torchrun`` asks for, if it was this that started us."""
    import torch
    import torch.distributed as dist

    if launch().num_ranks == 1 or dist.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (ValueError, RuntimeError) as error:
        found = str(error).splitlines()[0]
        raise UserError("to meet the other ranks", found, "start them with torchrun") from error
    try:
        yield
    except RuntimeError as error:
        # gloo's and NCCL's word for a rank that is gone.
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            found = str(error).splitlines()[0]
            raise UserError("all ranks at work", found, "see what another rank says") from error
        raise
    finally:
        dist.destroy_process_group()


def _dist():
    """``torch.distributed`` where a process group is at work, else None."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist and dist.is_available() and dist.is_initialized() else None

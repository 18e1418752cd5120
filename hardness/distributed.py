"""One run in several processes: ranks, slices and collective operations.

``torchrun`` starts the processes. A single process is one rank, which never waits and does not import torch:
if torch has not been imported, there is no process group.
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

Result = TypeVar("Result")


def num_ranks() -> int:
    """Size of the process group, which the user's code may have initialized; 1 without a group."""
    dist = _dist()
    return dist.get_world_size() if dist else 1


def is_many() -> bool:
    return num_ranks() > 1


def rank() -> int:
    dist = _dist()
    return dist.get_rank() if dist else 0


def my_slice(length: int) -> slice:
    """This rank's part of ``length`` consecutive items; sizes differ by one at most."""
    mine, ranks = rank(), num_ranks()
    return slice(length * mine // ranks, length * (mine + 1) // ranks)


def reduce(values: Tensor, how: str = "sum") -> Tensor:
    """Sum (``sum``) or minimum (``min``) of ``values`` over the ranks, in place."""
    if is_many():
        operations = _dist().ReduceOp
        _dist().all_reduce(values, {"sum": operations.SUM, "min": operations.MIN}[how])
    return values


def follow_first(values: Iterable[Tensor]) -> None:
    """Copy the values of rank 0 to every rank, in place."""
    if is_many():
        for each in values:
            _dist().broadcast(each, 0)


def wait_for_all() -> None:
    if is_many():
        _dist().barrier()


def first_decides(decide: Callable[[], Result]) -> Result:
    """Call ``decide`` on rank 0 -> its result on every rank; its ``UserError`` is raised on every rank."""
    if not is_many():
        return decide()
    result = None
    if rank() == 0:
        try:
            result = decide()
        except UserError as error:
            result = error
    results = [result]
    _dist().broadcast_object_list(results)
    if isinstance(results[0], UserError):
        raise results[0]
    return results[0]


@dataclass(frozen=True)
class Launch:
    """The ranks and sizes that ``torchrun`` sets in the environment."""

    rank: int = 0
    num_ranks: int = 1
    local_rank: int = 0
    """Rank among the processes on this machine."""
    num_local_ranks: int = 1


def launch() -> Launch:
    """Read the environment. Raises ``UserError`` if it is incomplete."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    found = {name: os.environ.get(name, "") for name in names}
    if found["WORLD_SIZE"] in ("", "1"):
        return Launch()
    if not all(value.isdigit() for value in found.values()):
        sentence = "The environment variables of torchrun are incomplete: {found}."
        listed = ", ".join(f"{name}={value}" for name, value in found.items())
        raise UserError("torchrun-environment", sentence, "Start with torchrun.", found=listed)
    return Launch(*map(int, found.values()))


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """A process group if ``torchrun`` started this process, destroyed at the end."""
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
        sentence, reason = "Cannot connect to the other ranks: {reason}.", str(error).splitlines()[0]
        raise UserError("ranks-not-connected", sentence, "Start with torchrun.", reason=reason) from error
    try:
        yield
    except RuntimeError as error:
        # How gloo and NCCL report that another rank has ended.
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            sentence, reason = "Lost the connection to another rank: {reason}.", str(error).splitlines()[0]
            raise UserError("rank-lost", sentence, "See the other ranks' errors.", reason=reason) from error
        raise
    finally:
        dist.destroy_process_group()


def _dist():
    """``torch.distributed`` if there is a process group, else None."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist and dist.is_available() and dist.is_initialized() else None

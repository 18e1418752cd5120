"""The processes of one run: a value that is passed to what needs it.

``torchrun`` starts them. One process alone is ``ALONE``: then nothing here waits or imports torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from hardness.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Result = TypeVar("Result")


@dataclass(frozen=True)
class Ranks:
    """One of the processes that share the work. All must call the same methods in the same order."""

    rank: int = 0
    size: int = 1
    """The number of processes."""
    local_rank: int = 0
    """Which process of this machine."""
    local_size: int = 1
    """The number of processes on this machine."""
    group: torch.distributed.ProcessGroup | None = None
    """None: the default group."""

    @property
    def is_many(self) -> bool:
        return self.size > 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def slice(self, length: int) -> slice:
        """This rank's part of ``length`` consecutive items; the sizes of parts differ by at most one."""
        return slice(length * self.rank // self.size, length * (self.rank + 1) // self.size)

    def reduce(self, values: Tensor, operation: Literal["sum", "min"] = "sum") -> Tensor:
        """``values`` summed over the ranks, or the minimum over them, in place."""
        if self.is_many:
            import torch.distributed as dist

            operations = {"sum": dist.ReduceOp.SUM, "min": dist.ReduceOp.MIN}
            dist.all_reduce(values, operations[operation], group=self.group)
        return values

    def broadcast(self, values: Iterable[Tensor]) -> None:
        """Copy the values of rank 0 to all ranks, in place."""
        if self.is_many:
            import torch.distributed as dist

            for each in values:
                dist.broadcast(each, group=self.group, group_src=0)

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        if self.is_many:
            import torch.distributed as dist

            dist.barrier(self.group)

    def on_first(self, work: Callable[[], Result]) -> Result:
        """The result of ``work()`` on rank 0, for every rank; a ``UserError`` is raised on every rank."""
        if not self.is_many:
            return work()
        import torch.distributed as dist

        result = None
        if self.is_first:
            try:
                result = work()
            except UserError as error:
                result = error
        results = [result]
        dist.broadcast_object_list(results, group=self.group, group_src=0)
        if isinstance(results[0], UserError):
            raise results[0]
        return results[0]


ALONE = Ranks()


def launched() -> Ranks:
    """This process, as ``torchrun`` describes it in the environment; ``UserError`` if incompletely."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    found = {name: os.environ.get(name, "") for name in names}
    if found["WORLD_SIZE"] in ("", "1"):
        return ALONE
    if not all(value.isdigit() for value in found.values()):
        raise UserError(
            "incomplete-launch",
            "The environment describes several processes incompletely ({environment}).",
            "Start them with torchrun.",
            environment=", ".join(f"{name}={value}" for name, value in found.items()),
        )
    return Ranks(*map(int, found.values()))


def of_process_group() -> Ranks:
    """This process in the default process group, if the caller's program has started one; else ``ALONE``."""
    # Without torch.distributed imported there is no process group.
    dist = sys.modules.get("torch.distributed")
    if dist is None or not dist.is_available() or not dist.is_initialized():
        return ALONE
    return Ranks(dist.get_rank(), dist.get_world_size())


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Start the process group of the processes that ``torchrun`` has launched; ``ALONE`` if it has not."""
    import torch
    import torch.distributed as dist

    ranks = launched()
    if not ranks.is_many or dist.is_initialized():
        yield ranks
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (ValueError, RuntimeError) as error:
        raise UserError(
            "no-process-group",
            "The processes could not connect to each other: {reason}.",
            "Start them with torchrun.",
            reason=str(error).splitlines()[0],
        ) from error
    try:
        yield ranks
    except RuntimeError as error:
        # gloo and NCCL report a rank that has exited.
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise UserError(
                "lost-rank",
                "Another process has stopped: {reason}.",
                "Its output says why.",
                reason=str(error).splitlines()[0],
            ) from error
        raise
    finally:
        dist.destroy_process_group()

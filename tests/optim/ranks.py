"""What each rank of test_ranks.py does."""

import gc
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from hardness import optim
from hardness.ranks import of_process_group
from hardness.training.step import train_step

NAMES = ("sgd", "rm3", "ra3", "m3", "a3", "rm3+adamw", "m3+adamw")
BATCH_SIZES = (8, 8, 7, 8, 5, 8, 4)
"""With 4 and 5 examples, some ranks of three have empty groups."""
SAVED_AFTER = 4
"""Steps: RM3 did not move in two of them, and swapped its buffers twice."""


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def build(name: str, model: nn.Module) -> Optimizer:
    return optim.build(name, model.parameters(), lr=0.05, weight_decay=0.01)


def global_batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    size = BATCH_SIZES[step]
    return torch.randn(size, 5, generator=generator), torch.randint(3, (size,), generator=generator)


def train_on_my_slice(model: nn.Module, optimizer: Optimizer, steps: range) -> None:
    ranks = of_process_group()
    for step in steps:
        images, labels = global_batch(step)
        mine = ranks.slice(len(images))
        train_step(model, optimizer, images[mine], labels[mine], batch_size=len(images), ranks=ranks)


def whole(model: nn.Module) -> dict[str, Tensor]:
    tensors = {name: value.detach() for name, value in model.named_parameters()}
    return {
        name.removeprefix("module."): value.full_tensor() if hasattr(value, "full_tensor") else value
        for name, value in tensors.items()
    }


def sharded() -> nn.Module:
    model = fully_shard(network(), mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    # Sum, then divide: with gloo, the average of torch 2.8 is a sum.
    model.set_force_sum_reduction_for_comms(True)
    return model


def step_along_partial_sums() -> Tensor:
    """Tensor parallelism: a replicated parameter whose gradient is a partial sum on each rank."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    weight = nn.Parameter(distribute_tensor(torch.zeros(2, 1), mesh, [Replicate()]))
    optimizer = optim.RM3([weight], lr=1.0)
    for size in (1.0, 3.0, 2.0):
        images = torch.full((6, 2), size)
        (distribute_tensor(images, mesh, [Shard(0)]) @ weight).sum().backward()
        assert weight.grad.placements != weight.placements
        optimizer.step()
        optimizer.zero_grad()
    return weight.detach().to_local().flatten()


def num_seen_where_a_shard_has_no_gradient() -> int:
    """A first step at learning rate 0, as in a warm-up, with a gradient that is 0 except on rank 0."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    weight = nn.Parameter(distribute_tensor(torch.zeros(6), mesh, [Shard(0)]))
    weight.grad = distribute_tensor(torch.tensor([1.0, 0, 0, 0, 0, 0]), mesh, [Shard(0)])
    optimizer = optim.RM3([weight], lr=0.0)
    optimizer.step()
    return optimizer.state[weight]["num_seen"]


def main(folder: Path, names: Sequence[str]) -> None:
    dist.init_process_group("gloo")
    assert step_along_partial_sums().tolist() == [-12, -12]
    assert num_seen_where_a_shard_has_no_gradient() == 1
    wrappers: dict[str, Callable[[], nn.Module]] = {
        "ddp": lambda: DistributedDataParallel(network()),
        "ddp-views": lambda: DistributedDataParallel(network(), gradient_as_bucket_view=True),
        "fsdp": sharded,
    }
    steps = range(len(BATCH_SIZES))
    for name in names:
        for kind, wrap in wrappers.items():
            model = wrap()
            train_on_my_slice(model, build(name, model), steps)
            save(whole(model), folder / f"{kind}-{name}.pt")
        model = sharded()
        optimizer = build(name, model)
        train_on_my_slice(model, optimizer, steps[:SAVED_AFTER])
        states = get_state_dict(model, optimizer)
        dcp.save(dict(zip(("model", "optimizer"), states, strict=True)), checkpoint_id=folder / f"dcp-{name}")

        model = sharded()
        optimizer = build(name, model)
        load(model, optimizer, folder / f"dcp-{name}")
        train_on_my_slice(model, optimizer, steps[SAVED_AFTER:])
        save(whole(model), folder / f"resumed-{name}.pt")
    # Objects that outlive the process group may crash the process at exit.
    del model, optimizer
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


def load(model: nn.Module, optimizer: Optimizer, folder: Path) -> None:
    model_state, optimizer_state = get_state_dict(model, optimizer)
    dcp.load({"model": model_state, "optimizer": optimizer_state}, checkpoint_id=folder)
    set_state_dict(model, optimizer, model_state_dict=model_state, optim_state_dict=optimizer_state)


def save(tensors: dict[str, Tensor], path: Path) -> None:
    if dist.get_rank() == 0:
        torch.save(tensors, path)

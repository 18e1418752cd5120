"""Training for some epochs, as an iterator: what happens after an epoch is the caller's business."""

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from hardness import distributed, seeding
from hardness.console import remark
from hardness.datasets import ImageSet, Loader, Shuffled
from hardness.datasets.augment import CropFlip
from hardness.datasets.loader import num_batches
from hardness.dynamics.record import argmax
from hardness.dynamics.recorder import Recorder
from hardness.errors import UserError
from hardness.optim import WinsorizedSGD
from hardness.optim.m3 import num_groups
from hardness.training.step import StepNorm, train_step

_MEASURED_STEPS = 8
_MUCH = 0.2
"""Of an epoch, to wait for images."""


@dataclass(frozen=True)
class EpochLog:
    """What an epoch of training says of itself; a line of log.jsonl."""

    epoch: int
    lr: float
    """Learning rate of the last step."""
    train_loss: float
    """Mean cross-entropy, nats, of the forward passes that training made."""
    train_top1: float
    """Share of correct predictions in those passes."""
    step_norm: float
    """Mean L2 norm of the step's direction over a few steps spread over the epoch."""
    seconds: float
    images_per_second: float
    loader_wait: float
    """Share of the time for which training waited for images."""


def learning_rate(base: float, schedule: str, progress: float) -> float:
    """The rate when ``progress`` (0..1) of all steps is done.

    step: divided by 10 at each third (epochs 30 and 60 of 90); cosine: half a cosine down to zero.
    """
    if schedule == "step":
        return base * 0.1 ** math.floor(3 * progress)
    if schedule == "cosine":
        return base * (1 + math.cos(math.pi * progress)) / 2
    return base


def fit(
    model: nn.Module,
    optimizer: Optimizer,
    images: ImageSet,
    ids: np.ndarray,
    *,
    epochs: int,
    batch_size: int,
    schedule: str,
    seed: int,
    device: torch.device,
    workers: int,
    first_epoch: int = 1,
    recorder: Recorder | None = None,
    augment: CropFlip | None = None,
) -> Iterator[EpochLog]:
    """Train on ``images[ids]`` and yield after every epoch. The base rate is the optimizer's default.

    Of many ranks, each trains on its slice of every batch, and all take the same step.

    Images that are larger than the network's are cropped by it, at random where there is ``augment``.

    Raises ``UserError`` at the end of an epoch in which a loss or a weight was not finite, naming the step,
    and at once where a batch is too small for the optimizer or the network.
    """
    num_steps = num_batches(len(ids), batch_size)
    _check_batch_size(model, optimizer, smallest=len(ids) // num_steps)
    base = optimizer.defaults["lr"]
    network = DistributedDataParallel(model) if distributed.is_many() else model
    order = Shuffled(ids, batch_size, seed)
    sizes = order.sizes
    batches = Loader(images, order, device, workers)
    for epoch in range(first_epoch, epochs + 1):
        started = time.perf_counter()
        order.epoch = epoch
        sums, norm = [], StepNorm(model)
        measured = set(np.linspace(0, num_steps - 1, _MEASURED_STEPS, dtype=int).tolist())
        # Dropout draws from torch's global generator: each epoch gives it a state of its own, and puts back
        # what was there.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seeding.derive(seed, "dropout", epoch, distributed.rank()))
            model.train()
            for step, (pixels, labels, example_ids) in enumerate(batches):
                if augment is not None:
                    pixels = augment(pixels, epoch, step, sizes[step])
                rate = learning_rate(base, schedule, (epoch - 1 + step / num_steps) / epochs)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                with norm.measured(rate) if step in measured else nullcontext():
                    loss, logits = train_step(
                        network,
                        optimizer,
                        pixels,
                        labels,
                        first=distributed.my_slice(sizes[step]).start,
                        batch_size=sizes[step] if distributed.is_many() else None,
                    )
                if recorder is not None:
                    recorder.update(example_ids, logits, labels)
                sums.append(torch.stack([loss * len(labels), (argmax(logits) == labels).sum()]))
        # Batch normalisation is a rank's own while it trains: what is measured and saved is rank 0's.
        distributed.follow_first(model.buffers())
        # The one wait for the device in an epoch.
        step_losses, num_correct = distributed.reduce(torch.stack(sums, 1)).cpu().double()
        _check_finite(step_losses, model, epoch)
        seconds = time.perf_counter() - started
        if epoch == first_epoch and batches.decodes and batches.waited > _MUCH * seconds:
            remark(
                f"training waits for images {batches.waited / seconds:.0%} of its time: "
                "`hardness pack` decodes them once for all runs (--data packed:DIR)"
            )
        yield EpochLog(
            epoch=epoch,
            lr=rate,
            train_loss=step_losses.sum().item() / len(ids),
            train_top1=num_correct.sum().item() / len(ids),
            step_norm=norm.mean(),
            seconds=seconds,
            images_per_second=len(ids) / seconds,
            loader_wait=batches.waited / seconds,
        )


def _check_batch_size(model: nn.Module, optimizer: Optimizer, smallest: int) -> None:
    """M3 and A3 need an example a group, and batch normalisation two of whatever it sees, on every rank."""
    has_batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    needed = num_groups(optimizer) * (2 if has_batch_norm else 1)
    if isinstance(optimizer, WinsorizedSGD):
        needed = 2 * optimizer.c - 1
        if distributed.is_many():
            found = f"{distributed.num_ranks()} ranks"
            raise UserError(
                "one process with winsorized, whose bounds are of the whole batch", found, "start one"
            )
    needed *= distributed.num_ranks()
    if smallest < needed:
        network = " and batch normalisation" if has_batch_norm else ""
        ranks = f" on {distributed.num_ranks()} ranks" if distributed.is_many() else ""
        raise UserError(
            f"batches of {needed} examples or more with this optimizer{network}{ranks}",
            str(smallest),
            "raise --batch-size",
        )


def _check_finite(step_losses: Tensor, model: nn.Module, epoch: int) -> None:
    wrong = (~step_losses.isfinite()).nonzero()
    # The last step's weights have met no loss yet.
    weights = torch.stack(torch._foreach_norm(list(model.parameters()))).sum().item()
    if len(wrong) or not math.isfinite(weights):
        step = wrong[0, 0].item() + 1 if len(wrong) else len(step_losses)
        found = f"a loss of {step_losses[step - 1].item()}" if len(wrong) else "weights that are not"
        raise UserError(
            "a finite loss", f"{found} in epoch {epoch}, step {step}", "lower --lr, or drop --momentum"
        )

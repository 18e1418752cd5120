"""Training for some epochs, as an iterator: the caller decides what happens after each epoch."""

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
_SLOW_LOADING = 0.2
"""Fraction of an epoch spent on data loading from which we recommend ``hardness pack``."""


@dataclass(frozen=True)
class EpochLog:
    """The measurements of one epoch of training; part of a line of log.jsonl."""

    epoch: int
    lr: float
    """Learning rate of the last step."""
    train_loss: float
    """Mean cross-entropy, nats, of the forward passes of training."""
    train_top1: float
    """Fraction of correct predictions in those passes."""
    step_norm: float
    """Mean L2 norm of the step's direction, over a few steps spread over the epoch."""
    seconds: float
    images_per_second: float
    loader_wait: float
    """Fraction of the time that training waited for images."""


def learning_rate(base: float, schedule: str, progress: float) -> float:
    """The rate after a fraction ``progress`` (0..1) of all steps.

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

    With several ranks, each trains on its slice of every batch, and all take the same step.

    Images larger than the network's input are cropped by it, at random if ``augment`` is given.

    Raises ``UserError`` at the end of an epoch in which a loss or a weight was not finite, with the step, and
    immediately if a batch is too small for the optimizer or the network.
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
        # Dropout draws from torch's global generator: seed it for each epoch, and restore its state.
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
        # Batch normalization statistics differ between ranks during training: measure and save rank 0's.
        distributed.follow_first(model.buffers())
        # The only synchronization with the device in an epoch.
        step_losses, num_correct = distributed.reduce(torch.stack(sums, 1)).cpu().double()
        _check_finite(step_losses, model, epoch)
        seconds = time.perf_counter() - started
        if epoch == first_epoch and batches.decodes and batches.waited > _SLOW_LOADING * seconds:
            remark(
                f"data loading takes {batches.waited / seconds:.0%} of each epoch: "
                "`hardness pack` decodes the images once for all runs (--data packed:DIR)"
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
    """Each rank needs one example per group of M3 and A3, or two with batch normalization."""
    has_batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    ranks = distributed.num_ranks()
    needed = num_groups(optimizer) * (2 if has_batch_norm else 1)
    if isinstance(optimizer, WinsorizedSGD):
        needed = 2 * optimizer.c - 1
        if ranks > 1:
            sentence = "winsorized trains in one process, not in {ranks}: it needs the whole batch."
            raise UserError("winsorized-ranks", sentence, "Start one process.", ranks=ranks)
    needed *= ranks
    if smallest < needed:
        sentence = "A batch has {smallest} examples, but this optimizer{network} needs {needed}{where}."
        network = " with batch normalization" if has_batch_norm else ""
        where = f" on {ranks} ranks" if ranks > 1 else ""
        values = {"smallest": smallest, "needed": needed, "network": network, "where": where}
        raise UserError("batch-too-small", sentence, "Raise --batch-size.", **values)


def _check_finite(step_losses: Tensor, model: nn.Module, epoch: int) -> None:
    wrong = (~step_losses.isfinite()).nonzero()
    # No loss has been computed yet with the weights of the last step.
    weights = torch.stack(torch._foreach_norm(list(model.parameters()))).sum().item()
    if len(wrong) or not math.isfinite(weights):
        step = wrong[0, 0].item() + 1 if len(wrong) else len(step_losses)
        what = f"the loss is {step_losses[step - 1].item()}" if len(wrong) else "a weight is not finite"
        sentence = "Training diverged: {what} in epoch {epoch}, step {step}."
        values = {"what": what, "epoch": epoch, "step": step}
        raise UserError("training-diverged", sentence, "Lower --lr, or omit --momentum.", **values)

"""One training run: a frozen description, and the network that is trained by it, epoch by epoch."""

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from hardness import models, optim, seeding
from hardness.console import remark
from hardness.datasets import DataSet, Examples, Loader, Shuffled
from hardness.dynamics.record import argmax
from hardness.dynamics.recorder import Recorder
from hardness.errors import UserError
from hardness.optim.requirements import requirements
from hardness.ranks import Ranks
from hardness.resources import Resources
from hardness.training import checkpoint
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
    """Fraction of the time for which training waited for data."""


def learning_rate(base: float, schedule: str, progress: float) -> float:
    """The rate after a fraction ``progress`` (0..1) of all steps.

    step: divided by 10 at each third (epochs 30 and 60 of 90); cosine: half a cosine down to zero.
    """
    if schedule == "step":
        return base * 0.1 ** math.floor(3 * progress)
    if schedule == "cosine":
        return base * (1 + math.cos(math.pi * progress)) / 2
    return base


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """Everything that a trained network depends on. Settings have the names and meanings of the flags."""

    data: DataSet
    """Decides the network's inputs and classes."""
    examples: Examples
    """With the labels that are trained on."""
    ids: np.ndarray
    """int64: of the examples that are trained on."""
    model: str
    stem: str
    precision: str
    """float32 or bf16."""
    compile: bool
    sync_batchnorm: bool = False
    optimizer: str
    lr: float
    momentum: float | None
    weight_decay: float
    schedule: str
    epochs: int
    batch_size: int
    augment: str
    seed: int
    """Of first weights, order, dropout and augmentation."""
    resources: Resources

    @classmethod
    def of(cls, config: Any, data: DataSet, resources: Resources, **others: Any) -> "Job":
        """With the settings of a stage's ``config``, but for ``others``."""
        names = {field.name for field in fields(cls)} - others.keys()
        settings = {name: getattr(config, name) for name in names if hasattr(config, name)}
        if "precision" in settings:
            settings["precision"] = config.compute_precision
        return cls(**(settings | others | {"data": data, "resources": resources}))

    def network(self) -> nn.Module:
        """The network with its first weights, on the device."""
        model = models.build(
            self.model,
            self.data,
            seed=seeding.derive(self.seed, "init"),
            stem=self.stem,
            precision=self.precision,
            compile=self.compile,
        ).to(self.resources.device)
        if not self.sync_batchnorm:
            return model
        if self.resources.device.type != "cuda":
            sentence, device = "--sync-batchnorm needs CUDA (the device is {device}).", self.resources.device
            raise UserError("sync-batchnorm-on-cpu", sentence, "Remove it.", device=str(device))
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)

    def start(self) -> "StartedJob":
        model = self.network()
        optimizer = optim.build(self.optimizer, model.parameters(), self.lr, self.weight_decay, self.momentum)
        return StartedJob(self, model, optimizer)


@dataclass(frozen=True, eq=False)
class StartedJob:
    """A job under way. What happens after an epoch is up to the caller."""

    job: Job
    model: nn.Module
    optimizer: Optimizer

    def load(self, path: Path) -> int:
        """Restore a checkpoint -> its epoch; 0 if there is no file."""
        return checkpoint.load(path, self.model, self.optimizer, self.job.resources.device)

    def save(self, path: Path, epoch: int) -> None:
        checkpoint.save(path, self.model, self.optimizer, epoch)

    def epochs(self, after: int = 0, recorder: Recorder | None = None) -> Iterator[EpochLog]:
        """Train the epochs after ``after``, and yield after each. The base rate is the optimizer's default.

        With many ranks, each trains on its slice of every batch, and all take the same step. Inputs larger
        than the network's are cropped, at random with ``augment``. ``recorder`` records the passes of
        training.

        Raises ``UserError`` at the end of an epoch in which a loss or a weight was not finite, and at once if
        a batch is too small for the optimizer or the network.
        """
        job, ranks = self.job, self.job.resources.ranks
        order = Shuffled(job.ids, job.batch_size, job.seed, ranks)
        _check_batch_size(self.model, self.optimizer, smallest=min(order.sizes), ranks=ranks)
        network = DistributedDataParallel(self.model) if ranks.is_many else self.model
        batches = Loader(job.examples, order, job.resources.device, job.resources.workers)
        for epoch in range(after + 1, job.epochs + 1):
            order.epoch = epoch
            log = self._train_epoch(epoch, network, batches, order.sizes, recorder)
            if epoch == after + 1 and batches.decodes and log.loader_wait > _SLOW_LOADING:
                remark(
                    f"data loading takes {log.loader_wait:.0%} of each epoch: "
                    "`hardness pack` decodes the images once for all runs (--data packed:DIR)"
                )
            yield log

    def _train_epoch(
        self, epoch: int, network: nn.Module, batches: Loader, sizes: list[int], recorder: Recorder | None
    ) -> EpochLog:
        """``network``: the model, or with many ranks the model in DDP."""
        job, device, ranks = self.job, self.job.resources.device, self.job.resources.ranks
        started = time.perf_counter()
        augmentation = job.data.adapter.augmentation(job.augment, job.seed, ranks)
        base, num_steps = self.optimizer.defaults["lr"], len(sizes)
        sums, norm = [], StepNorm(self.model)
        measured = set(np.linspace(0, num_steps - 1, _MEASURED_STEPS, dtype=int).tolist())
        # Dropout draws from torch's global generator: seed it for each epoch, and restore its state.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seeding.derive(job.seed, "dropout", epoch, ranks.rank))
            self.model.train()
            for step, (inputs, labels, example_ids) in enumerate(batches):
                if augmentation is not None:
                    inputs = augmentation(inputs, epoch, step, sizes[step])
                rate = learning_rate(base, job.schedule, (epoch - 1 + step / num_steps) / job.epochs)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                with norm.measured(rate) if step in measured else nullcontext():
                    loss, logits = train_step(
                        network, self.optimizer, inputs, labels, batch_size=sizes[step], ranks=ranks
                    )
                if recorder is not None:
                    recorder.update(example_ids, logits, labels)
                sums.append(torch.stack([loss * len(labels), (argmax(logits) == labels).sum()]))
        # Each rank has its own batch normalization statistics: those of rank 0 are measured and saved.
        ranks.broadcast(self.model.buffers())
        # The one wait for the device in an epoch.
        step_losses, num_correct = ranks.reduce(torch.stack(sums, 1)).cpu().double()
        _check_finite(step_losses, self.model, epoch)
        seconds = time.perf_counter() - started
        return EpochLog(
            epoch=epoch,
            lr=rate,
            train_loss=step_losses.sum().item() / len(job.ids),
            train_top1=num_correct.sum().item() / len(job.ids),
            step_norm=norm.mean(),
            seconds=seconds,
            images_per_second=len(job.ids) / seconds,
            loader_wait=batches.waited / seconds,
        )


def _check_batch_size(model: nn.Module, optimizer: Optimizer, smallest: int, ranks: Ranks) -> None:
    """Each group needs an example, and batch normalization two, on every rank."""
    has_batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    needs = requirements(optimizer)
    if needs.example_gradients and ranks.is_many:
        sentence = "{optimizer} trains in one process, not in {processes}: it needs the whole batch."
        values = {"optimizer": type(optimizer).__name__, "processes": ranks.size}
        raise UserError("needs-whole-batch", sentence, "Start one process.", **values)
    least = max(needs.min_batch_size, needs.num_groups * (2 if has_batch_norm else 1)) * ranks.size
    if smallest < least:
        sentence = "A batch has {smallest} examples, but this optimizer{network} needs {least}{where}."
        network = " with batch normalization" if has_batch_norm else ""
        where = f" on {ranks.size} ranks" if ranks.is_many else ""
        values = {"smallest": smallest, "least": least, "network": network, "where": where}
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

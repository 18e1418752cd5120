"""One training run: a frozen description, and the network that is trained by it."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.optim import Optimizer

from hardness import models, optim, seeding
from hardness.datasets import DataSet, Examples
from hardness.dynamics.recorder import Recorder
from hardness.errors import UserError
from hardness.resources import Resources
from hardness.training import checkpoint
from hardness.training.fit import EpochLog, fit


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
    """A job under way."""

    job: Job
    model: nn.Module
    optimizer: Optimizer

    def epochs(self, after: int = 0, recorder: Recorder | None = None) -> Iterator[EpochLog]:
        """Train the epochs after that one, and yield after each. Raises ``UserError`` as ``fit`` does."""
        return fit(self.job, self.model, self.optimizer, after=after, recorder=recorder)

    def load(self, path: Path) -> int:
        """Restore a checkpoint -> its epoch; 0 if there is no file."""
        return checkpoint.load(path, self.model, self.optimizer, self.job.resources.device)

    def save(self, path: Path, epoch: int) -> None:
        checkpoint.save(path, self.model, self.optimizer, epoch)

"""Train a grid of networks; each is measured on groups of examples before the first and after every epoch.

A finished member is on disk, and is not trained again when the run is resumed.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from hardness import files
from hardness.config import Training
from hardness.console import Epochs, say, say_time_left
from hardness.datasets import DataSet, Examples
from hardness.resources import Resources
from hardness.runs.folder import RunFolder
from hardness.training.job import Job
from hardness.training.measure import Group, measure

_MEMBER = ("trained_on", "optimizer", "noise", "seed")
_SHOWN = {"train_loss": "train loss", "train_top1": "train accuracy"}
"""Entries of the log that progress shows."""
_COLUMNS = (*_MEMBER, "epoch", "measured_on", "loss", "top1", "top5", "num_examples")


@dataclass(frozen=True, eq=False)
class Member:
    """One network of the grid."""

    trained_on: str
    optimizer: str
    lr: float
    noise: float
    seed: int
    """Its number in the curves."""
    stream: int
    """Seed of its first weights and of the order of its examples."""
    examples: Examples
    ids: np.ndarray
    groups: Sequence[Group]

    @property
    def columns(self) -> dict[str, str | float | int]:
        """The columns of curves.parquet and log.jsonl that identify it."""
        return {name: getattr(self, name) for name in _MEMBER}

    @property
    def name(self) -> str:
        return f"{self.trained_on}-{self.optimizer}-noise{self.noise:g}-seed{self.seed}"


@dataclass(frozen=True)
class Epoch:
    """What a member's training reports before the first and after every epoch."""

    number: int
    """0: before training."""
    rows: list[dict[str, str | float | int]]
    """What was measured on its groups."""
    log: dict[str, Any] = field(default_factory=dict)
    """For log.jsonl."""


Trainer = Callable[[Member], Iterator[Epoch]]


def by_hardness(data: DataSet, config: Training, resources: Resources) -> Trainer:
    """Train as a stage's settings say."""

    def train(member: Member) -> Iterator[Epoch]:
        settings = {name: getattr(member, name) for name in ("examples", "ids", "optimizer", "lr")}
        training = Job.of(config, data, resources, seed=member.stream, **settings).start()
        yield Epoch(0, measure(training.model, member.groups, resources))
        for log in training.epochs():
            yield Epoch(log.epoch, measure(training.model, member.groups, resources), asdict(log))

    return train


def train_grid(
    run: RunFolder, members: Sequence[Member], train: Trainer, num_epochs: int | None
) -> pd.DataFrame:
    """Train the members that are not finished, and write curves.parquet -> its table.

    num_epochs: of each member; None: not known in advance.
    """
    path, parts = run.path / "curves.parquet", [_part(run, member) for member in members]
    fingerprint = run.info["fingerprint"]
    if not path.exists():
        finished = [member for member, part in zip(members, parts, strict=True) if part.exists()]
        left = [member for member in members if member not in finished]
        run.keep_log(lambda line: any(line.items() >= member.columns.items() for member in finished))
        total, done = (num_epochs and num_epochs * len(each) for each in (members, finished))
        with Epochs(total, done or 0, lines=False) as epochs:
            for number, member in enumerate(left, start=1):
                started = time.perf_counter()
                last = _train(run, member, train, num_epochs, epochs)
                told = ", ".join(f"{row['measured_on']} {row['top1']:.3f}" for row in last)
                say(f"{number}/{len(left)} {member.name}: {told}")
                if number == 1:
                    say_time_left("network", time.perf_counter() - started, len(left) - 1)
        tables = [files.read_table(part, fingerprint) for part in parts]
        files.write_table(path, pa.concat_tables(tables), fingerprint)
    shutil.rmtree(run.path / "members", ignore_errors=True)
    return files.read_table(path, fingerprint).to_pandas()


def _part(run: RunFolder, member: Member) -> Path:
    return run.path / "members" / f"{member.name}.parquet"


def _train(
    run: RunFolder, member: Member, train: Trainer, num_epochs: int | None, epochs: Epochs
) -> list[dict]:
    """Train a member, and write what was measured -> the rows of its last epoch."""
    epochs.begin(member.name)
    rows = []
    for epoch in train(member):
        rows += [{**member.columns, "epoch": epoch.number} | row for row in epoch.rows]
        if epoch.number:
            run.log(**member.columns, **{"epoch": epoch.number} | epoch.log)
            shown = {
                name.replace("top1", "accuracy"): epoch.log[name] for name in _SHOWN if name in epoch.log
            }
            numbers = {name.replace("_", " "): f"{value:.3f}" for name, value in shown.items()}
            epochs.add({"epoch": f"{epoch.number}/{num_epochs or '?'}", **numbers})
    table = pd.DataFrame(rows, columns=_COLUMNS)
    files.write_table(_part(run, member), table, run.info["fingerprint"])
    return rows[-len(member.groups) :]

"""Train a grid of networks; each is measured on groups of examples before the first and after every epoch.

A finished member is on disk, and is not trained again when the run is resumed.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

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


def train_grid(
    run: RunFolder, members: Sequence[Member], data: DataSet, config: Training, resources: Resources
) -> pd.DataFrame:
    """Train the members that are not finished, and write curves.parquet -> its table."""
    path, parts = run.path / "curves.parquet", [_part(run, member) for member in members]
    if not path.exists():
        finished = [member for member, part in zip(members, parts, strict=True) if part.exists()]
        left = [member for member in members if member not in finished]
        run.keep_log(lambda line: any(line.items() >= member.columns.items() for member in finished))
        with Epochs(len(members) * config.epochs, len(finished) * config.epochs, lines=False) as epochs:
            for number, member in enumerate(left, start=1):
                started = time.perf_counter()
                last = _train(run, member, data, config, resources, epochs)
                told = ", ".join(f"{row['measured_on']} {row['top1']:.3f}" for row in last)
                say(f"{number}/{len(left)} {member.name}: {told}")
                if number == 1:
                    say_time_left("network", time.perf_counter() - started, len(left) - 1)
        tables = [files.read_table(part, data.fingerprint) for part in parts]
        files.write_table(path, pa.concat_tables(tables), data.fingerprint)
    shutil.rmtree(run.path / "members", ignore_errors=True)
    return files.read_table(path, data.fingerprint).to_pandas()


def _part(run: RunFolder, member: Member) -> Path:
    return run.path / "members" / f"{member.name}.parquet"


def _train(
    run: RunFolder, member: Member, data: DataSet, config: Training, resources: Resources, epochs: Epochs
) -> list[dict]:
    """Train a member, and write what was measured -> the rows of its last epoch."""
    settings = {name: getattr(member, name) for name in ("examples", "ids", "optimizer", "lr")}
    training = Job.of(config, data, resources, seed=member.stream, **settings).start()

    def measured(epoch: int) -> list[dict]:
        named = {**member.columns, "epoch": epoch}
        return [named | row for row in measure(training.model, member.groups, resources)]

    epochs.begin(member.name)
    rows = measured(0)
    for log in training.epochs():
        rows += measured(log.epoch)
        run.log(**member.columns, **asdict(log))
        loss, accuracy = f"{log.train_loss:.3f}", f"{log.train_top1:.3f}"
        epochs.add({"epoch": f"{log.epoch}/{config.epochs}", "train loss": loss, "train accuracy": accuracy})
    table = pd.DataFrame(rows, columns=_COLUMNS)
    files.write_table(_part(run, member), table, data.fingerprint)
    return rows[-len(member.groups) :]

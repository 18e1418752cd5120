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

from hardness import files, models, optim, seeding
from hardness.console import Epochs, say, say_time_left
from hardness.datasets import DataSet, ImageSet, augment
from hardness.settings import Training
from hardness.stages.run_folder import RunFolder
from hardness.training.device import resolve_device, resolve_precision
from hardness.training.fit import fit
from hardness.training.measure import Group, measure

_COLUMNS = ("trained_on", "optimizer", "noise", "seed", "epoch", "measured_on", "loss", "top1", "top5")


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
    images: ImageSet
    ids: np.ndarray
    groups: Sequence[Group]

    @property
    def columns(self) -> dict[str, str | float | int]:
        """The columns of curves.parquet and log.jsonl that identify it."""
        return {
            "trained_on": self.trained_on,
            "optimizer": self.optimizer,
            "noise": self.noise,
            "seed": self.seed,
        }

    @property
    def name(self) -> str:
        return f"{self.trained_on}-{self.optimizer}-noise{self.noise:g}-seed{self.seed}"


def train_grid(
    run: RunFolder, members: Sequence[Member], data: DataSet, *, model: str, stem: str, config: Training
) -> pd.DataFrame:
    """Train the members that are not finished, and write curves.parquet -> its table."""
    path, parts = run.path / "curves.parquet", [_part(run, member) for member in members]
    if not path.exists():
        finished = [member for member, part in zip(members, parts, strict=True) if part.exists()]
        open_members = [member for member in members if member not in finished]
        run.keep_log(lambda line: any(line.items() >= member.columns.items() for member in finished))
        with Epochs(len(members) * config.epochs, len(finished) * config.epochs, lines=False) as epochs:
            _train_all(run, open_members, data, model, stem, config, epochs)
        tables = [files.read_table(part, data.fingerprint) for part in parts]
        files.write_table(path, pa.concat_tables(tables), data.fingerprint)
    shutil.rmtree(run.path / "members", ignore_errors=True)
    return files.read_table(path, data.fingerprint).to_pandas()


def _part(run: RunFolder, member: Member) -> Path:
    return run.path / "members" / f"{member.name}.parquet"


def _train_all(
    run: RunFolder,
    members: Sequence[Member],
    data: DataSet,
    model_name: str,
    stem: str,
    config: Training,
    epochs: Epochs,
) -> None:
    device = resolve_device(config.device)
    workers = config.num_workers
    started = time.perf_counter()
    for number, member in enumerate(members, start=1):
        model = models.build(
            model_name,
            data,
            seed=seeding.derive(member.stream, "init"),
            stem=stem,
            precision=resolve_precision(config.precision, device),
            compile=config.compile,
        ).to(device)
        optimizer = optim.build(
            member.optimizer, model.parameters(), member.lr, config.weight_decay, config.momentum
        )
        rows = []

        def measured(epoch: int, model=model, member=member, rows=rows) -> None:
            for row in measure(model, member.groups, device, workers):
                rows.append({**member.columns, "epoch": epoch, **row})

        epochs.begin(member.name)
        measured(0)
        training = fit(
            model,
            optimizer,
            member.images,
            member.ids,
            epochs=config.epochs,
            batch_size=config.batch_size,
            schedule=config.schedule,
            seed=member.stream,
            device=device,
            workers=workers,
            augment=augment.build(config.augment, data.image_shape, member.stream),
        )
        for log in training:
            measured(log.epoch)
            run.log(**member.columns, **asdict(log))
            epochs.add(
                {
                    "epoch": f"{log.epoch}/{config.epochs}",
                    "train loss": f"{log.train_loss:.3f}",
                    "train accuracy": f"{log.train_top1:.3f}",
                }
            )
        table = pd.DataFrame(rows, columns=[*_COLUMNS, "num_examples"])
        files.write_table(_part(run, member), table, data.fingerprint)
        last = ", ".join(f"{row['measured_on']} {row['top1']:.3f}" for row in rows[-len(member.groups) :])
        say(f"{number}/{len(members)} {member.name}: {last}")
        if number == 1:
            say_time_left("a network", time.perf_counter() - started, len(members) - 1)

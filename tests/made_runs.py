"""Run folders as the stages write them, without training: their numbers are drawn, or given by the test."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache
from itertools import count, product
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from hardness import datasets, files
from hardness.config import Data
from hardness.datasets import DataSet
from hardness.datasets.labels import given_labels, labels_fingerprint, noise_rate
from hardness.dynamics import store
from hardness.dynamics.record import record
from hardness.dynamics.scores import scores
from hardness.runs.folder import RunFolder
from hardness.runs.reading import finished_info, read_info
from hardness.settings.memorize import Memorize
from hardness.settings.retrain import Retrain
from hardness.settings.track import Track
from hardness.stages.track import examples
from hardness.subsets import SUBSETS
from hardness.training.job import EpochLog

_digits = cache(lambda: datasets.load(Data(), model="mlp"))


def tracked_run(out: Path, **settings) -> Path:
    """A finished run of track with those settings, by default of six epochs.

    The data set is loaded as track loads it. Each example is learned at a time that depends on its class, its
    label (a corrupt one is learned later) and a random number that runs of different seeds share in part.
    Some are never learned. There are no checkpoints.
    """
    config = Track(**{"epochs": 6, "out": out, **settings})
    with RunFolder("track", config) as run:
        data = _digits() if config.data == "digits" else datasets.load(config, model=config.model, workers=0)
        train = data.train.with_labels(given_labels(data, config, config.noise))
        run.update(
            seed=config.seed,
            fingerprint=data.fingerprint,
            record_mode=config.record,
            device="cpu",
            precision="float32",
            data=data.describe(),
            num_unreadable=len(train.unreadable),
            noise_rate=noise_rate(train),
            labels_fingerprint=labels_fingerprint(train.given_labels),
            num_parameters=85_002,
        )
        files.write_table(out / "examples.parquet", examples(train), data.fingerprint)
        learned = np.zeros(len(train), bool)
        for epoch, logits in enumerate(_logits(replace(data, train=train), config), start=1):
            write_records(out, epoch, logits, train.given_labels, train.ids, data.fingerprint)
            found = store.read_epoch(out, epoch)
            learned |= found.is_correct
            top1, loss = found.is_correct[train.ids].mean(), np.nanmean(found.loss)
            log = asdict(EpochLog(epoch, config.lr, loss.item(), top1.item(), 1.0, 0.5, 2000.0, 0.01))
            validation = {"validation_loss": 2 / epoch, "validation_top1": epoch / (epoch + 1)}
            recorded = {"record_loss": loss.item(), "record_top1": top1.item(), "learned": learned.mean()}
            run.log(**log, **recorded, **validation, validation_top5=1.0)
        table = scores(out, data.fingerprint)
        files.write_table(
            out / "scores.parquet", table, data.fingerprint, {"last_epoch": config.epochs, "asked": {}}
        )
    return out


def write_records(
    run: Path,
    epoch: int,
    logits: torch.Tensor,
    labels: torch.Tensor,
    ids: np.ndarray,
    fingerprint: str,
    precision: type = np.float16,
) -> None:
    """The records of logits (N, C); those of examples that are not among ids are null."""
    is_unreadable = ~np.isin(np.arange(len(labels)), ids)
    prediction, *numbers = record(logits, labels)
    columns = [labels.numpy(), prediction.numpy()]
    columns += [number.numpy().astype(precision).astype(np.float32) for number in numbers]
    arrays = [
        pa.array(column, kind, mask=is_unreadable)
        for column, kind in zip(columns, store.SCHEMA.types[1:], strict=True)
    ]
    table = pa.table([pa.array(np.arange(len(labels))), *arrays], schema=store.SCHEMA)
    store.write_part(run, epoch, table, fingerprint)


def _logits(data: DataSet, config: Track) -> list[torch.Tensor]:
    train, classes = data.train, torch.arange(len(data.class_names))
    shared, own = (torch.Generator().manual_seed(seed) for seed in (0, 1 + config.seed))
    num_examples = len(train)
    is_corrupt = train.given_labels != train.clean_labels
    difficulty = torch.rand(num_examples, generator=shared) + 0.05 * train.given_labels + 0.8 * is_corrupt
    difficulty += 0.2 * torch.rand(num_examples, generator=own)
    noise = torch.randn(config.epochs, num_examples, len(classes), generator=own)
    is_given = train.given_labels[:, None] == classes
    is_clean = train.clean_labels[:, None] == classes
    return [
        drawn + 7 * (time - difficulty)[:, None] * is_given + 2 * time * is_clean
        for drawn, time in zip(noise, (1.4 * epoch / (epoch + 2) for epoch in count(1)), strict=False)
    ]


Accuracy = Callable[..., float]
"""Of trained_on, optimizer, noise, seed, measured_on, and time, which goes from 0 to 1 over training."""


def hardness_accuracy(trained_on: str, seed: int, measured_on: str, time: float, **_) -> float:
    """Easy subsets generalize well, hard ones do not, their controls lie between."""
    top1 = 0.9 if measured_on == "easy" else 0.2 if measured_on == "hard" else 0.6
    top1 += 0.05 * (trained_on == measured_on) + 0.01 * seed
    return 0.1 + time * (top1 - 0.1)


def memorization_accuracy(
    optimizer: str, noise: float, seed: int, measured_on: str, time: float, **_
) -> float:
    """Pristine labels are fitted first, then corrupt ones, by medians more slowly."""
    speed = 1.0 if optimizer.startswith("sgd") else 0.7
    pristine, corrupt = min(1.0, 1.5 * time), speed * time**2 * (1 - 0.02 * seed)
    of_group = {"pristine": pristine, "corrupt": corrupt, "corrupt-clean": 0.8 * pristine * (1 - corrupt)}
    of_group |= {"train": (1 - noise) * pristine + noise * corrupt, "validation": 0.8 * pristine}
    return 0.1 + 0.9 * of_group[measured_on]


def retrained_run(out: Path, split: Path, accuracy: Accuracy = hardness_accuracy, **settings) -> Path:
    """A finished run of retrain on a split of a tracked run, with those accuracies."""
    tracked = finished_info(split.parents[1])
    as_tracked = {n: tracked["config"][n] for n in ("model", "optimizer", "epochs", "lr", "batch_size")}
    as_tracked |= {
        n: tracked["config"][n] for n in ("weight_decay", "schedule", "augment", "precision", "stem")
    }
    config = Retrain(**{**as_tracked, "seeds": 2, "out": out, "split": split, **settings})
    subsets = files.read_table(split).to_pandas()
    sizes = subsets.value_counts(["subset", "fold"])
    split_settings = files.table_settings(split)
    with RunFolder("retrain", config) as run:
        run.update(
            **{name: tracked[name] for name in ("fingerprint", "record_mode", "device", "precision", "data")},
            split={**split_settings, "name": split.stem},
            tracking_seed="+".join(map(str, split_settings["tracking_seeds"])),
            tracked={n: v for n, v in tracked["config"].items() if n not in ("seed", "out", "resume")},
        )
        groups = {name: int(sizes[name, "test"]) for name in SUBSETS}
        groups |= {"validation": tracked["data"]["num_validation"], "train": int(sizes["easy", "train"])}
        members = [
            {
                "trained_on": name,
                "optimizer": config.optimizer,
                "noise": tracked["config"]["noise"],
                "seed": seed,
            }
            for seed, name in product(range(config.seeds), subsets["subset"].unique())
        ]
        write_curves(run, members, [groups] * len(members), config.epochs, accuracy)
    return out


def memorized_run(out: Path, accuracy: Accuracy = memorization_accuracy, **settings) -> Path:
    """A finished run of memorize on digits, with those accuracies."""
    config = Memorize(**{"lr": 0.2, "seeds": 2, "epochs": 3, "out": out, **settings})
    data = _digits()
    num_train = len(data.train)
    with RunFolder("memorize", config) as run:
        noisy = [data.train.with_labels(given_labels(data, config, noise)) for noise in config.noise]
        rates = {f"{noise:g}": noise_rate(train) for noise, train in zip(config.noise, noisy, strict=True)}
        run.update(
            fingerprint=data.fingerprint,
            learning_rates=dict.fromkeys(config.optimizers, config.lr),
            device="cpu",
            precision="float32",
            data=data.describe(),
            num_unreadable=0,
            labels_fingerprint=labels_fingerprint(torch.cat([train.given_labels for train in noisy])),
            noise_rates=rates,
        )
        members = [
            {"trained_on": "all", "optimizer": optimizer, "noise": noise, "seed": seed}
            for noise, seed, optimizer in product(config.noise, range(config.seeds), config.optimizers)
        ]
        write_curves(
            run,
            members,
            [_noisy_groups(num_train, rates[f"{member['noise']:g}"]) for member in members],
            config.epochs,
            accuracy,
        )
    return out


def _noisy_groups(num_train: int, rate: float) -> dict[str, int]:
    corrupt = round(rate * num_train)
    groups = {"pristine": num_train - corrupt, "corrupt": corrupt, "corrupt-clean": corrupt}
    return {name: size for name, size in groups.items() if size} | {"train": num_train, "validation": 360}


def write_curves(
    run: RunFolder,
    members: Sequence[dict],
    groups: Sequence[dict[str, int]],
    epochs: int,
    accuracy: Accuracy,
) -> None:
    """curves.parquet and log.jsonl of networks, each measured on groups of so many examples."""
    rows = []
    for member, sizes in zip(members, groups, strict=True):
        for epoch in range(epochs + 1):
            for measured_on, size in sizes.items():
                top1 = accuracy(**member, measured_on=measured_on, time=epoch / epochs)
                numbers = {"loss": 2.3 * (1.1 - top1), "top1": top1, "top5": (1 + top1) / 2}
                rows.append(
                    {**member, "epoch": epoch, "measured_on": measured_on, **numbers, "num_examples": size}
                )
            if epoch:
                log = EpochLog(epoch, 0.1, 2.3 / epoch, rows[-1]["top1"], 1.0, 0.5, 2000.0, 0.01)
                run.log(**member, **asdict(log))
    files.write_table(run.path / "curves.parquet", pd.DataFrame(rows), run.info["fingerprint"])


def change_info(run: Path, **values) -> None:
    """Put other values in run.json."""
    files.write_json(run / "run.json", read_info(run) | values)

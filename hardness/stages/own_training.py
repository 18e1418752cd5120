"""``hardness.retrain(run, train=...)`` and ``hardness.memorize(run, train=...)``: the two tests of the paper
on any model, which a function of the user's own trains.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from hardness import files, seeding
from hardness.checks import check_noise, require, require_distinct, require_fraction, require_positive
from hardness.console import say
from hardness.datasets import Examples
from hardness.datasets.labels import labels_fingerprint, noise_rate, noisy_labels
from hardness.datasets.samples import hold_out
from hardness.dynamics.own_runs import completed_info
from hardness.registry import parse_optimizer
from hardness.runs.discovery import newest_split
from hardness.runs.folder import RunFolder
from hardness.runs.reading import OWN, split_settings
from hardness.stages import memorize as memorizing
from hardness.stages import retrain as retraining
from hardness.training.grid import Member, train_grid
from hardness.training.measure import Group
from hardness.training.own_training import IdsOnly, Train, by_user


@dataclass(frozen=True, kw_only=True)
class OwnTraining:
    """The settings of both stages."""

    seeds: int
    weight_decay: float
    momentum: float | None
    resume: bool
    out: Path | None

    def __post_init__(self) -> None:
        require_positive(seeds=self.seeds)


@dataclass(frozen=True, kw_only=True)
class OwnRetrain(OwnTraining):
    split: Path
    optimizer: str
    lr: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(lr=self.lr)
        parse_optimizer(self.optimizer)


@dataclass(frozen=True, kw_only=True)
class OwnMemorize(OwnTraining):
    run: Path
    optimizers: tuple[str, ...]
    lr: float | dict[str, float]
    noise: tuple[float, ...]
    noise_seed: int
    val_fraction: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fraction("val_fraction", self.val_fraction)
        for name, values in (("optimizers", self.optimizers), ("noise", self.noise)):
            require_distinct(name, values)
        for optimizer in self.optimizers:
            parse_optimizer(optimizer)
        for noise in self.noise:
            check_noise(noise, None)
        for optimizer in self.optimizers:
            known = not isinstance(self.lr, dict) or optimizer in self.lr
            sentence, hint = "lr has no learning rate of {optimizer}.", "Add it, or give one number."
            require(known, "no-learning-rate", sentence, hint, optimizer=optimizer)
        for rate in self.rates.values():
            require_positive(lr=rate)

    @property
    def rates(self) -> dict[str, float]:
        """Optimizer -> learning rate."""
        return {name: self.lr[name] if isinstance(self.lr, dict) else self.lr for name in self.optimizers}


def retrain(
    run: str | Path,
    train: Train,
    *,
    split: str | Path | None = None,
    seeds: int = 3,
    optimizer: str = "sgd",
    lr: float = 0.02,
    weight_decay: float = 0.0,
    momentum: float | None = None,
    out: str | Path | None = None,
    resume: bool = False,
) -> Path:
    """Train by ``train`` on each subset of a split, and evaluate on the test folds of all.

    run: whose split it is, by default its newest; the other settings are those of ``hardness retrain``.
    Returns the run's folder.
    """
    run = Path(run)
    path = newest_split(run) if split is None else Path(split)
    found, info = split_settings(path), completed_info(run, "track")
    shared = {"seeds": seeds, "weight_decay": weight_decay, "momentum": momentum, "resume": resume}
    config = OwnRetrain(split=path, optimizer=optimizer, lr=lr, out=out and Path(out), **shared)
    folder = RunFolder("retrain", config)
    if folder.is_finished:
        return folder.path
    subsets = files.read_table(path, info["fingerprint"]).to_pandas()
    class_names = info["data"]["class_names"]
    retraining.check_classes(path, subsets, class_names)
    examples = _examples(run, info)
    tracking_seed = seeding.derive(0, *found["tracking_seeds"])
    with folder:
        _describe(
            folder,
            info,
            split={**found, "name": path.stem},
            tracking_seed="+".join(map(str, found["tracking_seeds"])),
            tracked={},
        )
        members = retraining.grid(
            subsets, examples, [], tracking_seed, seeds, optimizer=optimizer, lr=lr, noise=0.0
        )
        many = f"{len(members)} networks of your own training, {len(members[0].ids):,} examples each"
        say(f"retrain on {path}: {many}")
        curves = _train(folder, members, train, len(class_names), config)
        retraining.describe(curves.assign(tracking_seed=folder.info["tracking_seed"]))
    return folder.path


def memorize(
    run: str | Path,
    train: Train,
    *,
    optimizers: Sequence[str] = ("sgd", "ra3", "m3", "rm3"),
    noise: Sequence[float] = (0.0, 0.5, 1.0),
    seeds: int = 1,
    lr: float | dict[str, float] = 0.2,
    noise_seed: int = 0,
    val_fraction: float = 0.2,
    weight_decay: float = 0.0,
    momentum: float | None = None,
    out: str | Path | None = None,
    resume: bool = False,
) -> Path:
    """Train by ``train`` with every optimizer under the same label noise, and compare what they memorize.

    run: whose examples are trained on; noise is drawn on their clean labels, or if these are unknown on the
    given ones. val_fraction: the share of the examples, the same of each class, that is the validation set.
    lr: of all optimizers, or of each. The other settings are those of ``hardness memorize``.
    Returns the run's folder.
    """
    run = Path(run)
    info = completed_info(run, "track")
    shared = {"seeds": seeds, "weight_decay": weight_decay, "momentum": momentum, "resume": resume}
    config = OwnMemorize(
        run=run,
        optimizers=tuple(optimizers),
        lr=lr,
        noise=tuple(map(float, noise)),
        noise_seed=noise_seed,
        val_fraction=val_fraction,
        out=out and Path(out),
        **shared,
    )
    folder = RunFolder("memorize", config)
    if folder.is_finished:
        return folder.path
    examples = _examples(run, info)
    clean = examples.with_labels(examples.clean_labels)
    ids, held = hold_out(clean.clean_labels.numpy()[clean.ids], val_fraction)
    validation = Group("validation", clean, clean.ids[held])
    trained = replace(clean, unreadable=np.setdiff1d(np.arange(len(clean)), clean.ids[ids]))
    noisy = {
        level: trained.with_labels(noisy_labels(clean.clean_labels, level, noise_seed))
        for level in config.noise
    }
    with folder:
        _describe(
            folder,
            info,
            learning_rates=config.rates,
            labels_fingerprint=labels_fingerprint(torch.cat([each.given_labels for each in noisy.values()])),
            noise_rates={f"{each:g}": noise_rate(images) for each, images in noisy.items()},
        )
        members = memorizing.grid(noisy, validation, noise_seed, seeds, config.rates)
        say(f"memorize {run}: {len(members)} networks of your own training, {len(ids):,} examples")
        curves = _train(folder, members, train, len(info["data"]["class_names"]), config)
        memorizing.describe(curves)
    return folder.path


def _examples(run: Path, info: dict[str, Any]) -> Examples:
    """Without inputs. Clean labels are the given ones if nobody knows better."""
    table = files.read_table(run / "examples.parquet", info["fingerprint"]).to_pandas()
    given, clean = (
        torch.from_numpy(table[name].to_numpy("int64", copy=True))
        for name in ("given_label", "clean_label" if "clean_label" in table else "given_label")
    )
    unreadable = np.flatnonzero(~table["is_readable"].to_numpy())
    # No label: such an example is never used.
    return Examples(IdsOnly(), table["key"].tolist(), clean.clamp(min=0), given.clamp(min=0), unreadable)


def _describe(folder: RunFolder, info: dict[str, Any], **entries: Any) -> None:
    data = {name: info["data"][name] for name in ("num_train", "class_names")}
    fixed = {"fingerprint": info["fingerprint"], "record_mode": OWN, "device": "", "data": data}
    folder.update(**fixed, **entries)


def _train(
    folder: RunFolder, members: list[Member], train: Train, num_classes: int, config: OwnTraining
) -> pd.DataFrame:
    trainer = by_user(train, num_classes, config.weight_decay, config.momentum)
    curves = train_grid(folder, members, trainer, num_epochs=None)
    lengths = curves.groupby(["trained_on", "optimizer", "noise", "seed"])["epoch"].max()
    if lengths.nunique() > 1:
        raise ValueError(f"train() must yield equally often, not {lengths.min()} to {lengths.max()} times")
    folder.update(config={**folder.settings, "epochs": int(lengths.iloc[0])})
    return curves

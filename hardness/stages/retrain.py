"""``hardness retrain``: train from scratch on each subset, measure on every subset's test fold."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from hardness import files, seeding
from hardness.console import say, table
from hardness.datasets import Examples
from hardness.dynamics.own_runs import check_has_network, completed_info
from hardness.errors import UserError
from hardness.findings.generalization import Generalization, transfer_matrix
from hardness.probes.tracked_run import load_tracked, tracked_settings
from hardness.resources import Resources
from hardness.runs.discovery import RUNS, newest_split
from hardness.runs.folder import RunFolder
from hardness.runs.reading import split_settings
from hardness.runs.settings import OBSERVING, OPERATIONAL
from hardness.settings.retrain import Retrain
from hardness.subsets import SUBSETS, one_class_subsets
from hardness.training.grid import Member, by_hardness, train_grid
from hardness.training.measure import Group

_NOT_SHARED = {"seed", *OBSERVING, *OPERATIONAL}
_AS_TRACKED = ("epochs", "lr", "batch_size", "weight_decay", "schedule", "augment", "precision")


def retrain(config: Retrain) -> Path:
    """Retrain on a split -> the run's folder, with curves.parquet."""
    path = config.split or newest_split(RUNS)
    settings = split_settings(path)
    tracked = path.resolve().parent.parent
    info = completed_info(tracked, "track")
    check_has_network(tracked, info, "retrain")
    tracked_config = tracked_settings(info)
    config = _resolve(replace(config, split=path), tracked_config)
    run = RunFolder("retrain", config)
    if run.is_finished:
        return run.path
    subsets = files.read_table(path, info["fingerprint"]).to_pandas()
    check_classes(path, subsets, info["data"]["class_names"])
    with run:
        resources = Resources.of(config.device, config.workers)
        data = load_tracked(tracked, info, config.data, resources, model=config.model)
        tracking_seed = seeding.derive(0, *settings["tracking_seeds"])
        run.update(
            fingerprint=data.fingerprint,
            device=resources.describe(),
            precision=config.compute_precision,
            data=data.describe(),
            record_mode=info["record_mode"],
            split={**settings, "name": path.stem},
            tracking_seed="+".join(map(str, settings["tracking_seeds"])),
            tracked={name: value for name, value in tracked_config.items() if name not in _NOT_SHARED},
        )
        validation = Group("validation", data.validation, data.validation.ids)
        settings = {"optimizer": config.optimizer, "lr": config.lr, "noise": tracked_config["noise"]}
        members = grid(subsets, data.train, [validation], tracking_seed, config.seeds, **settings)
        say(
            f"retrain on {path}: {len(members)} networks, {config.model} with {config.optimizer}, "
            f"{len(members[0].ids)} examples each, {config.epochs} epochs, on {resources.describe()}"
        )
        curves = train_grid(run, members, by_hardness(data, config, resources), config.epochs)
        describe(curves.assign(tracking_seed=run.info["tracking_seed"]))
    return run.path


def grid(
    subsets: pd.DataFrame,
    examples: Examples,
    others: Sequence[Group],
    tracking_seed: int,
    seeds: int,
    **settings: Any,
) -> list[Member]:
    """Networks: seed times subset, each measured on every subset's test fold, and on the ``others``.

    subsets: example_id, subset, fold. settings: of ``Member``.
    """
    folds = {key: group["example_id"].to_numpy() for key, group in subsets.groupby(["subset", "fold"])}
    shared = [Group(name, examples, folds[name, "test"]) for name in SUBSETS]
    return [
        Member(
            trained_on=name,
            seed=seed,
            # Independent of the tracking seed's generators and of the other seeds.
            stream=seeding.derive(tracking_seed, "retrain", seed),
            examples=examples,
            ids=folds[name, "train"],
            groups=[*shared, *others, Group("train", examples, folds[name, "train"])],
            **settings,
        )
        for seed in range(seeds)
        for name in subsets["subset"].unique()
    ]


def check_classes(path: Path, subsets: pd.DataFrame, class_names: list[str]) -> None:
    """A network that trains on a single class has nothing to learn."""
    for name, label in one_class_subsets(subsets).items():
        sentence = "All training examples of subset {subset} in {split} are of class {label!r}."
        hint = "Split again, with a larger --quantile or another --balance or --by."
        values = {"subset": name, "split": str(path), "label": class_names[label]}
        raise UserError("single-class-subset", sentence, hint, **values)


def _resolve(config: Retrain, tracked: dict) -> Retrain:
    """Settings that were not given are those of the tracked run."""
    as_tracked = {name: tracked[name] for name in _AS_TRACKED if getattr(config, name) is None}
    if config.optimizer is None:
        as_tracked |= {"optimizer": tracked["optimizer"]}
        as_tracked |= {"allow_momentum": config.allow_momentum or tracked["allow_momentum"]}
        if config.momentum is None:
            as_tracked["momentum"] = tracked["momentum"]
    if config.stem is None:
        as_tracked["stem"] = tracked["stem"] if config.model is None else "standard"
    return replace(config, **{"model": config.model or tracked["model"], **as_tracked})


def describe(curves: pd.DataFrame) -> None:
    matrix = transfer_matrix(curves).droplevel("tracking_seed").loc[list(SUBSETS)]
    columns = [name for name in (*SUBSETS, "validation", "train") if name in matrix]
    rows = [[name, *(f"{value:.3f}" for value in row)] for name, row in matrix[columns].iterrows()]
    table("Top-1 at the last epoch: trained on (rows), measured on (columns)", ["", *columns], rows)
    words = Generalization.of(curves).words()
    for sentence in (*words.sentences, *words.cautions):
        say(sentence)

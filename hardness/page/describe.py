"""Which runs of a report belong together, and their settings in words."""

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from hardness.runs.reading import OWN, has_logits
from hardness.runs.settings import OBSERVING, OPERATIONAL, defaults, describe_lr, split_of

Runs = dict[Path, dict[str, Any]]
"""Run folder -> its run.json."""
_RECORDS = {"eval": "evaluation-mode records", "train": "training-mode records"}
_USUAL = {"stem": "standard", "schedule": "constant", "weight_decay": 0.0, "momentum": None}
# Settings in which runs of one group may differ: seeds and what follows from them, what is measured, and the
# location of the data set, since its fingerprint identifies it.
_NOT_COMPARED = {
    *("seed", "noise_seed", "split", "tracking_seeds", "runs", "name", "num_twins", "data", "device"),
    *OBSERVING,
    *OPERATIONAL,
}
# Runs of memorize may also differ in what identifies the networks of a grid, and in how their learning rates
# were found. Given labels are compared by their fingerprint, not by their file.
_OF_A_GRID = {"optimizers", "noise", "seeds", "lr_from", "given_labels"}


def grouped(runs: Runs, stage: str) -> list[Runs]:
    """Runs of a stage in groups, in which each network occurs once.

    They differ only in their tracking seed; runs of memorize in optimizers, noise levels and seeds.
    """
    groups: dict[str, Runs] = {}
    for path, info in runs.items():
        if info["stage"] != stage:
            continue
        same = json.dumps(_compared(info), sort_keys=True)
        # The same seed again, even with other label noise, is not another seed: it belongs to another group.
        copies = 0
        while any(_networks(info) & _networks(each) for each in groups.get(f"{same} {copies}", {}).values()):
            copies += 1
        groups.setdefault(f"{same} {copies}", {})[path] = info
    return list(groups.values())


def described(runs: Runs, stage: str) -> list[tuple[Runs, str]]:
    """The groups of ``grouped``, with a description of each; more settings if two would be the same."""
    groups = grouped(runs, stage)
    texts = [_DESCRIBE[stage](list(group.values())) for group in groups]
    found = []
    for text, group in zip(texts, groups, strict=True):
        others = [_compared(first(each)) for other, each in zip(texts, groups, strict=True) if other == text]
        mine = _compared(first(group))
        differ = [name for name in mine if any(other.get(name) != mine[name] for other in others)]
        more = ", ".join(f"{name.replace('_', ' ')} {mine[name]}" for name in differ)
        if len(others) > 1:
            text = f"{text}, {more or ' and '.join(path.name for path in group)}"
        found.append((group, text))
    return found


def first(group: Runs) -> dict[str, Any]:
    """run.json of the first run of a group."""
    return next(iter(group.values()))


def _networks(info: dict) -> set[tuple]:
    """What distinguishes the networks of a run from those of other runs in its group."""
    if info["stage"] == "memorize":
        config = info["config"]
        return set(product(config["optimizers"], config["noise"], range(config["seeds"])))
    return {(info.get("tracking_seed", info.get("seed")),)}


def _compared(info: dict) -> dict[str, Any]:
    """The settings that all runs of a group share; missing ones of older runs have their default."""
    config = defaults(info["stage"]) | info["config"]
    parts, others, ignored = {"": config}, {}, _NOT_COMPARED
    if info["stage"] == "memorize":
        labels = info.get("labels_fingerprint") if config["given_labels"] else None
        others = {"noise_seed": config["noise_seed"], "given labels": labels}
        ignored = _NOT_COMPARED | _OF_A_GRID
    if info["stage"] == "retrain":
        tracked = defaults("track") | {"precision": "float32"} | info.get("tracked", {})
        config = {name: tracked.get(name) if value is None else value for name, value in config.items()}
        parts = {"": config, "split ": split_of(info), "tracked ": tracked}
    others |= {"data set": info["fingerprint"], "records": info.get("record_mode")}
    return others | {
        f"{part}{name}": value
        for part, settings in parts.items()
        for name, value in settings.items()
        if name not in ignored
    }


def seed_of(info: dict) -> str:
    """The seed of a run, and with label noise that of its labels."""
    noise = f", labels {info['config']['noise_seed']}" if info["config"]["noise"] else ""
    return f"{info['seed']}{noise}"


def distinct(settings: Sequence[str]) -> list[str]:
    """The parts of each description that not all others share."""
    parts = [each.split(", ") for each in settings]
    shared = set(parts[0]).intersection(*parts)
    return [", ".join(part for part in each if part not in shared) or ", ".join(each) for each in parts]


def _describe_tracking(infos: Sequence[dict]) -> str:
    info, config = infos[0], infos[0]["config"]
    if info.get("record_mode") == OWN:
        return f"{describe_data(info)}, {describe_training(info)}"
    noise = f", label noise {config['noise']:g}" if config["noise"] else ""
    return f"{describe_data(info)}, {describe_training(info)}{noise}, {_RECORDS[info['record_mode']]}"


def describe_compared(infos: Sequence[dict]) -> str:
    """Runs of the same examples, given labels and record mode."""
    runs = "one run" if len(infos) == 1 else f"{len(infos)} runs"
    if infos[0].get("record_mode") == OWN:
        return f"{describe_data(infos[0])}, {runs} of your own training loop"
    models = ", ".join(dict.fromkeys(info["config"]["model"] for info in infos))
    optimizers = ", ".join(dict.fromkeys(info["config"]["optimizer"] for info in infos))
    noise = infos[0].get("noise_rate")
    corrupt = f", {noise:.2g} of labels corrupt" if noise else ""
    data = f"{describe_data(infos[0])}{corrupt}, {_RECORDS[infos[0]['record_mode']]}"
    return f"{data}, {runs} of {models} with {optimizers}"


def _records(info: dict) -> str:
    mode = info["record_mode"]
    return "" if mode == OWN else f"{_RECORDS[mode]}, "


def _describe_retraining(infos: Sequence[dict]) -> str:
    info = infos[0]
    split = split_of(info)
    rule = f"quantile {split['quantile']:g} of {split['by']}"
    if split["rule"] == "learned-by":
        rule = f"correct at epoch {split['epoch']}"
    within = " within each class" if split["balance"] == "class" else ""
    controls = f", {split['controls']} controls per subset" if split["controls"] > 1 else ""
    duplicates = ", without near-duplicates" if split["drop_twins"] else ""
    seeds = info["config"]["seeds"]
    retrainings = "one retraining" if seeds == 1 else f"{seeds} retrainings"
    return (
        f"{describe_data(info)}, {rule}{within}{duplicates}{controls}, {_records(info)}"
        f"{describe_training(info)}, {retrainings} per tracking seed"
    )


def _describe_memorization(infos: Sequence[dict]) -> str:
    return f"{describe_data(infos[0])}, {describe_training(*infos)}"


def describe_data(info: dict) -> str:
    data = info["data"]
    if info.get("record_mode") == OWN:
        what = f"{len(data['class_names'])} classes" if has_logits(info) else "losses only"
        return f"{data['num_train']:,} examples, {what}"
    kind, _, location = (info["config"]["data"] or info["tracked"]["data"]).partition(":")
    size = " x ".join(map(str, data["image_shape"][1:]))
    name = Path(location).name or kind
    return f"{name} ({data['num_train']:,} images, {len(data['class_names'])} classes, {size})"


def describe_training(*infos: dict) -> str:
    """The training settings of a group of runs; some only if they are not the usual ones."""
    config = infos[0]["config"]
    optimizer = f" {config['optimizer']}" if config.get("optimizer") else ""
    if infos[0].get("record_mode") == OWN:
        # Not known until the first network is finished.
        epochs = f"{config['epochs']} epochs" if "epochs" in config else "unfinished"
        rate = f"{optimizer} {describe_lr(*infos)}," if "lr" in config else ""
        text = f"your own training loop,{rate} {epochs}"
    else:
        text = f"{config['model']},{optimizer} {describe_lr(*infos)}, batch {config['batch_size']}, "
        text += f"{config['epochs']} epochs"
    for name, value in config.items():
        if name in _USUAL and value not in (None, _USUAL[name]):
            text += f", {name.replace('_', ' ')} {value}"
    return text


_DESCRIBE = {"track": _describe_tracking, "retrain": _describe_retraining, "memorize": _describe_memorization}

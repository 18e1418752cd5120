"""What the runs of a report are called, and which belong together."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hardness.stages.run_folder import OBSERVING, OPERATIONAL
from hardness.stages.split import DEFAULTS

_UNCOMMON = {"stem": "standard", "schedule": "constant", "weight_decay": 0.0, "momentum": None}
# Settings in which runs of one group may differ: seeds, what follows from them, and what is looked at.
_NOT_COMPARED = {"seed", "noise_seed", "split", "tracking_seeds", "runs", *OBSERVING, *OPERATIONAL}


def alike(runs: dict[Path, dict], stage: str) -> list[dict[Path, dict]]:
    """Runs of a stage in groups that differ in their tracking seed alone."""
    groups: dict[str, dict[Path, dict]] = {}
    for path, info in runs.items():
        if info["stage"] != stage:
            continue
        config = {key: value for key, value in info["config"].items() if key not in _NOT_COMPARED}
        split = {key: value for key, value in split_of(info).items() if key not in _NOT_COMPARED}
        same = json.dumps([info["fingerprint"], config, split, info.get("tracked")], sort_keys=True)
        groups.setdefault(same, {})[path] = info
    return list(groups.values())


def split_of(info: dict) -> dict[str, Any]:
    """The settings of a run's split, of older versions too."""
    return DEFAULTS | info.get("split", {})


def seed_of(info: dict) -> str:
    """What tells a run from those like it: its seed, and under label noise that of its labels."""
    noise = f", labels {info['config']['noise_seed']}" if info["config"]["noise"] else ""
    return f"{info['seed']}{noise}"


def distinct(settings: Sequence[str]) -> list[str]:
    """Of each of several descriptions what the others do not all have as well."""
    parts = [each.split(", ") for each in settings]
    shared = set(parts[0]).intersection(*parts)
    return [", ".join(part for part in each if part not in shared) or ", ".join(each) for each in parts]


def describe_tracking(info: dict) -> str:
    config = info["config"]
    noise = f", label noise {config['noise']:g}" if config["noise"] else ""
    return f"{describe_data(info)}, {describe_training(config)}{noise}, {info['record_mode']} records"


def describe_compared(infos: Sequence[dict]) -> str:
    """Of runs of the same examples, given labels and way of recording."""
    models = ", ".join(dict.fromkeys(info["config"]["model"] for info in infos))
    optimizers = ", ".join(dict.fromkeys(info["config"]["optimizer"] for info in infos))
    noise = infos[0].get("noise_rate")
    corrupt = f", {noise:.2g} of the labels corrupt" if noise else ""
    runs = "one run" if len(infos) == 1 else f"{len(infos)} runs"
    data = f"{describe_data(infos[0])}{corrupt}, {infos[0]['record_mode']} records"
    return f"{data}, {runs} of {models} with {optimizers}"


def describe_retraining(info: dict) -> str:
    split = split_of(info)
    rule = (
        f"correct at epoch {split['epoch']}"
        if split["rule"] == "learned-by"
        else f"quantile {split['quantile']:g} of {split['by']}"
    )
    within = " within each class" if split["balance"] == "class" else ""
    controls = f", {split['controls']} controls each" if split["controls"] > 1 else ""
    twins = ", without near-duplicates" if split["drop_twins"] else ""
    config = info["config"]
    return (
        f"{describe_data(info)}, {rule}{within}{twins}{controls}, {info['record_mode']} records, "
        f"{describe_training(config)}, {config['seeds']} retrainings a tracking seed"
    )


def describe_memorization(info: dict) -> str:
    return f"{describe_data(info)}, {describe_training(info['config'])}"


def describe_data(info: dict) -> str:
    config = info["config"]
    kind, _, place = (config["data"] or info["tracked"]["data"]).partition(":")
    size = " x ".join(map(str, info["data"]["image_shape"][1:]))
    name = Path(place).name or kind
    return (
        f"{name} ({info['data']['num_train']:,} images, {len(info['data']['class_names'])} classes, {size})"
    )


def describe_training(config: dict) -> str:
    """The settings of training; those that are often left alone only where they were not."""
    optimizer = f" {config['optimizer']}" if "optimizer" in config else ""
    uncommon = [
        f", {name.replace('_', ' ')} {value}"
        for name, value in config.items()
        if name in _UNCOMMON and value not in (None, _UNCOMMON[name])
    ]
    return (
        f"{config['model']},{optimizer} lr {config['lr']:g}, batch {config['batch_size']}, "
        f"{config['epochs']} epochs{''.join(uncommon)}"
    )

"""The settings of a run: which exist, which change its results, and its command line."""

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

from hardness.registry import STAGES
from hardness.runs.reading import OWN

# Settings that change where a run is written and how fast it is, not its results.
OPERATIONAL = {"out", "resume", "workers", "cache", "download"}
# Settings of track that add measurements, and do not change training.
OBSERVING = {"checkpoint_every", "coherence_every", "coherence_sample"}
SPLITTING = (
    *("rule", "by", "balance", "quantile", "epoch", "train_size", "test_size", "test_fraction"),
    *("controls", "drop_twins", "seed"),
)
"""Settings of split that are kept in its file."""


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as they are read back from JSON."""
    return json.loads(json.dumps(settings, default=str))


def defaults(stage: str) -> dict[str, Any]:
    """The default settings of a stage, as they are read back from JSON."""
    return {
        field.name: list(field.default) if isinstance(field.default, tuple) else field.default
        for field in dataclasses.fields(STAGES[stage].load())
    }


def split_of(info: dict[str, Any]) -> dict[str, Any]:
    """The settings of the split behind a retraining, by its run.json, also of an older version."""
    by_default = defaults("split")
    return {name: by_default[name] for name in SPLITTING} | info.get("split", {})


def training_settings(info: dict[str, Any]) -> dict[str, Any]:
    """The settings of a tracked run that affect training, without its data and labels; of your own, none."""
    if info.get("record_mode") == OWN:
        return {}
    others = {"data", "given_labels", "noise", "noise_seed", "device", "allow_momentum"}
    others |= OBSERVING | OPERATIONAL
    return {name: value for name, value in info.get("config", {}).items() if name not in others}


def non_default(info: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run that are neither the default nor, for a retraining, as tracked."""
    tracked, config = info.get("tracked", {}), info["config"]
    as_tracked = all(config.get(name) == tracked.get(name) for name in ("model", "optimizer"))
    found = {}
    for name, default in defaults(info["stage"]).items():
        if default is None and as_tracked:
            default = tracked.get(name)
        value = config.get(name, default)
        if value != default:
            found[name] = value
    return found


def command(stage: str, settings: dict[str, Any], info: dict[str, Any] | None = None) -> str:
    """The command line of a stage, without settings that are None, false or an empty list.

    info: run.json of a run that may have several ranks.
    """
    words = ["hardness", stage]
    num_ranks = (info or {}).get("num_ranks", 1)
    if num_ranks > 1:
        num_local_ranks = info.get("num_local_ranks", num_ranks)
        nodes = ["--nnodes", num_ranks // num_local_ranks] if num_ranks > num_local_ranks else []
        words = ["torchrun", *nodes, "--nproc-per-node", num_local_ranks, "-m", *words]
    for key, value in settings.items():
        if value is not None and value is not False and value != []:
            words.append(f"--{key.replace('_', '-')}")
            words += value if isinstance(value, (list, tuple)) else [] if value is True else [value]
    return shlex.join(map(str, words))


def resume_command(run: Path, info: dict[str, Any]) -> str:
    if info.get("record_mode") == OWN:
        return f"the same call with out={str(run)!r}, resume=True"
    settings = {name: value for name, value in info["config"].items() if name != "resume"}
    return command(info["stage"], {**settings, "out": run, "resume": True}, info)


def describe_lr(*infos: dict[str, Any]) -> str:
    """The learning rate of a group of runs, or that of each optimizer once known."""
    config = infos[0]["config"]
    is_searched = bool(config.get("lr_from"))
    if not (is_searched or isinstance(config["lr"], dict)):
        return f"lr {config['lr']:g}"
    rates: dict[str, dict[str, None]] = {}
    for info in infos:
        for optimizer, rate in info.get("learning_rates", {}).items():
            rates.setdefault(optimizer, {})[f"{rate:g}"] = None
    # The settings of a description are separated by commas.
    listed = "; ".join(f"{optimizer} {' or '.join(found)}" for optimizer, found in rates.items())
    return f"lr of each{' by search' * is_searched}{f': {listed}' if listed else ''}"

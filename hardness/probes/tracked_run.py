"""Load a tracked run: its settings, its data, its network."""

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hardness import datasets, files
from hardness.config import Data
from hardness.console import say
from hardness.datasets import DataSet
from hardness.dynamics.scores import SCORES
from hardness.errors import UserError
from hardness.probes.tracked_model import TrackedModel
from hardness.registry import STAGES, source_of
from hardness.resources import Resources
from hardness.runs.reading import data_of
from hardness.training import checkpoint
from hardness.training.job import Job


def tracked_settings(info: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run of track, by its run.json.

    A run of an older version used the defaults of settings that it does not name. Precision is the one that
    was used, not "auto".
    """
    return {
        **asdict(STAGES["track"].load()()),
        **info["config"],
        "precision": info.get("precision", "float32"),
    }


def tracked_data(info: dict[str, Any], moved_to: str | None = None, model: str | None = None) -> Data:
    """The data settings of a tracked run, by its run.json; ``moved_to``: where the data is now.

    Image size and pixel range are those of the run. ``model``: the network to load for, if not the run's.
    """
    settings = tracked_settings(info)
    names = ("data", "size", "val_fraction", "on_bad_image", "background", "pixel_range")
    found = {name: settings[name] for name in names}
    found["data"] = moved_to or data_of(info)
    source = source_of(found["data"])
    if not source.has_image_files:
        # Packed data has its own validation set, and its pixels do not change.
        return Data(**{name: found[name] for name in ("data", "size", "on_bad_image")})
    if "inception_v3" not in {model, settings["model"]} or model in (None, settings["model"]):
        found["size"] = info["data"]["image_shape"][-1]
    # Older versions divided 16-bit values by 256. None: no image has more than 8 bits.
    recorded = info["data"].get("pixel_range", (0, 65535))
    found["pixel_range"] = tuple(recorded or (0, 255))
    return Data(**found)


def load_as_tracked(source: Data, fingerprint: str, hint: str, **options: Any) -> DataSet:
    """The data set, loaded with those options. Raises ``UserError`` if it is not the one that was tracked."""
    data = datasets.load(source, verbose=False, **options)
    if data.fingerprint != fingerprint:
        sentence = "The data set is not the one that was tracked: its fingerprint is {found}, not {expected}."
        raise UserError("data-changed", sentence, hint, found=data.fingerprint, expected=fingerprint)
    return data


def load_unread(info: dict[str, Any], workers: int = 0) -> DataSet:
    """The data of a tracked run; images are read only when used, so a broken one raises no error here.

    Raises ``UserError`` if the data is missing or has changed.
    """
    settings = tracked_settings(info)
    source = replace(tracked_data(info), cache="none", on_bad_image="stop")
    options = {"model": settings["model"], "workers": workers}
    return load_as_tracked(source, info["fingerprint"], "Restore the data.", **options)


def load_tracked(
    run: Path,
    info: dict[str, Any],
    moved_to: str | None,
    resources: Resources,
    model: str | None = None,
) -> DataSet:
    """The data of a tracked run, the training set with the given labels of that run.

    ``model``: the network to load for, if not the run's. Raises ``UserError`` if the data has changed.
    """
    settings = tracked_settings(info)
    options = {"model": model or settings["model"], "workers": resources.workers, "device": resources.device}
    source, hint = tracked_data(info, moved_to, model), "Name the data with --data."
    data = load_as_tracked(source, info["fingerprint"], hint, **options)
    examples = files.read_table(run / "examples.parquet", data.fingerprint, ["given_label"])
    given = torch.tensor(examples["given_label"].to_numpy().astype("int64"))
    return replace(data, train=data.train.with_labels(given))


def open_tracked(run: Path, info: dict[str, Any], moved_to: str | None, resources: Resources) -> TrackedModel:
    """The run's network and its data; ``moved_to``: where the data is now."""
    data = load_tracked(run, info, moved_to, resources)
    source = asdict(tracked_data(info, moved_to))
    settings = tracked_settings(info) | source | {"given_labels": None, "noise": 0.0, "out": None}
    others = {"examples": data.train, "ids": data.train.ids, "sync_batchnorm": False}
    job = Job.of(STAGES["track"].load()(**settings), data, resources, **others)
    return TrackedModel(run, job, job.network())


def network_score(tracked: TrackedModel, name: str, epoch: int | None) -> tuple[np.ndarray, int]:
    """(N,) of a score that needs the network, and the epoch of its weights (``epoch`` None: the last)."""
    epoch = checkpoint.load_weights(tracked.run, tracked.model, tracked.resources.device, epoch)
    started = time.perf_counter()
    found = SCORES[name].load()(tracked)
    say(f"{name} of {len(found):,} examples: {time.perf_counter() - started:.1f} s")
    return found, epoch

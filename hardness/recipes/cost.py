"""What the runs of a plan cost: images taken through networks, at a rate measured now, and files.

Assumed: images come as fast as the network takes them (packed, or in memory); every optimizer takes the time
of SGD (M3 and A3 see the same images in three groups; Winsorized SGD takes far longer); a compiled network is
no faster; several GPUs share a run's images evenly.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hardness import config as c
from hardness.dynamics.store import BYTES_PER_RECORD
from hardness.recipes.count import (
    Passes,
    ancestor,
    num_epochs,
    num_looks,
    num_subsets,
    passes,
    settings_of,
    subset_sizes,
)
from hardness.recipes.plan import Run

_OVERHEAD, _REPORT = 2.0, 20.0
"""Seconds: of every run, and of a report more."""
_TABLES, _ROW, _EPOCH, _PAGE = 70, 11, 430, 7_000_000
"""Bytes, as on digits: an example's in examples.parquet and scores.parquet, an example's of a subset in a
split, an epoch's in log.jsonl and curves.parquet; a report."""


@dataclass(frozen=True)
class Cost:
    """Of what isn't done yet of a run."""

    seconds: float
    bytes: int


def costs(runs: Sequence[Run]) -> dict[Run, Cost]:
    """Of each of the runs; each network that they train is tried out, for a few seconds.

    Raises ``UserError`` where a data set is gone.
    """
    # What stands here imports torch.
    import torch

    from hardness import datasets
    from hardness.recipes import rate
    from hardness.resources import num_workers

    @cache
    def load(source: c.Data, model: str) -> datasets.DataSet:
        return datasets.load(source, model=model, verbose=False)

    @cache
    def measured(source: c.Data, model: str, *network: Any) -> rate.Rate:
        return rate.measure(load(source, model), model, *network)

    def cost(run: Run) -> Cost:
        kind = run.stage.kind
        if kind in (c.Report, c.Labels):
            is_report = kind is c.Report
            return Cost(_OVERHEAD + is_report * _REPORT, is_report * _PAGE)
        settings = settings_of(run)
        if not settings.get("data"):
            # It comes from a run that isn't known yet.
            return Cost(_OVERHEAD, 0)
        source = _images(run, settings)
        data = load(source, settings.get("model", ""))
        sizes = len(data.train), len(data.validation)
        if kind is c.Pack:
            seconds = sum(sizes) * rate.decode(data, num_workers(run.config.workers))
            return Cost(_OVERHEAD + seconds, sum(sizes) * math.prod(data.image_shape))
        if kind is c.Split:
            rows = num_subsets(settings) * sum(subset_sizes(settings, sizes[0])[:2])
            return Cost(_OVERHEAD, rows * _ROW)
        todo, seconds, size = passes(run, *sizes, data.num_classes), 0.0, _EPOCH * num_epochs(run)
        if todo != Passes():
            names = ("model", "stem", "precision", "batch_size", "device")
            precision = "bf16" if settings["precision"] == "bf16" else "float32"
            found = measured(source, *((settings | {"precision": precision})[name] for name in names))
            seconds = todo.trained * found.trained + todo.evaluated * found.evaluated
        if kind is c.Track:
            precision = "float32" if settings["precision"] == "float32" else "float16"
            size += sizes[0] * (settings["epochs"] * BYTES_PER_RECORD[precision] + _TABLES)
            # Of 4 bytes: the weights and what the optimizer keeps; the weights of epochs that are kept.
            numbers = 1 + rate.state_size(settings["optimizer"], settings["momentum"])
            size += 4 * found.num_parameters * (numbers + num_looks(settings, "checkpoint_every"))
        left = 1 - run.num_epochs_done / (num_epochs(run) or 1)
        share = max(1, min(run.stage.gpus, torch.cuda.device_count()))
        return Cost(_OVERHEAD + left * seconds / share, round(left * size))

    return {run: cost(run) for run in runs}


def duration(seconds: float) -> str:
    """40 s, 12 minutes, 3.5 hours, 20 days."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.{0 if seconds >= 10 * size else 1}f} {unit}"
    return f"{math.ceil(seconds)} s"


def _images(run: Run, settings: dict[str, Any]) -> c.Data:
    """Its images, none of which is decoded before it is asked for; of those yet to be packed their source."""
    found = {name: settings[name] for name in ("data", "size", "val_fraction")}
    pack = ancestor(run, c.Pack)
    if pack and not (pack.product / "pack.json").exists():
        source = settings_of(pack)
        found = {name: source[name] for name in found} | {"size": found["size"] or source["size"]}
    elif found["data"].startswith("packed:"):
        # What was held out lies apart there.
        found["val_fraction"] = None
    return c.Data(**found, cache="none")

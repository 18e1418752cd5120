"""Estimated cost of the runs of a recipe: time at a throughput measured now, and disk space.

Assumptions: data loading is not the bottleneck (packed or in memory); every optimizer takes as long as SGD
(M3 and A3 see the same images in three groups; Winsorized SGD takes much longer); compiling does not help;
several GPUs share the images of a run evenly.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hardness.config import Data
from hardness.dynamics.store import BYTES_PER_RECORD
from hardness.recipes import count
from hardness.recipes.plan import PlannedRun
from hardness.registry import source_of

_OVERHEAD, _REPORT = 2.0, 20.0
"""Seconds: for every run, and in addition for a report."""
_TABLES, _ROW, _EPOCH, _PAGE = 70, 11, 430, 7_000_000
"""Bytes, as on digits: per example in examples.parquet and scores.parquet; per example and subset in a
split; per epoch in log.jsonl and curves.parquet; per report."""


@dataclass(frozen=True)
class Cost:
    """The cost of what is left of a run."""

    seconds: float
    bytes: int


def costs(runs: Sequence[PlannedRun]) -> dict[PlannedRun, Cost]:
    """The cost of each run. Measures each network that they train, for a few seconds.

    Raises ``UserError`` if a data set is missing.
    """
    # These import torch.
    import torch

    from hardness import datasets
    from hardness.recipes import rate
    from hardness.resources import num_workers

    @cache
    def load(source: Data, model: str) -> datasets.DataSet:
        return datasets.load(source, model=model, verbose=False)

    @cache
    def measured(source: Data, model: str, *network: Any) -> rate.Rate:
        return rate.measure(load(source, model), model, *network)

    def cost(run: PlannedRun) -> Cost:
        stage = run.stage.entry.name
        if stage in ("report", "labels"):
            is_report = stage == "report"
            return Cost(_OVERHEAD + is_report * _REPORT, is_report * _PAGE)
        settings = count.settings_of(run)
        if not settings.get("data"):
            # Known only after the run that it depends on.
            return Cost(_OVERHEAD, 0)
        source = _images(run, settings)
        data = load(source, settings.get("model", ""))
        sizes = len(data.train), len(data.validation)
        if stage == "pack":
            seconds = sum(sizes) * rate.decode(data, num_workers(run.config.workers))
            return Cost(_OVERHEAD + seconds, sum(sizes) * math.prod(data.adapter.input_shape))
        if stage == "split":
            rows = count.num_subsets(settings) * sum(count.subset_sizes(settings, sizes[0])[:2])
            return Cost(_OVERHEAD, rows * _ROW)
        num_epochs = count.num_epochs(run)
        todo, seconds, size = count.passes(run, *sizes, data.num_classes), 0.0, _EPOCH * num_epochs
        if todo != count.Passes():
            names = ("model", "stem", "precision", "batch_size", "device")
            precision = "bf16" if settings["precision"] == "bf16" else "float32"
            found = measured(source, *((settings | {"precision": precision})[name] for name in names))
            seconds = todo.trained * found.trained + todo.evaluated * found.evaluated
        if stage == "track":
            precision = "float32" if settings["precision"] == "float32" else "float16"
            size += sizes[0] * (settings["epochs"] * BYTES_PER_RECORD[precision] + _TABLES)
            # In numbers of 4 bytes: the weights, the state of the optimizer, and kept checkpoints.
            numbers = 1 + rate.state_size(settings["optimizer"], settings["momentum"])
            numbers += count.num_measurements(settings, "checkpoint_every")
            size += 4 * found.num_parameters * numbers
        left = 1 - run.num_epochs_done / (num_epochs or 1)
        share = max(1, min(run.stage.gpus, torch.cuda.device_count()))
        return Cost(_OVERHEAD + left * seconds / share, round(left * size))

    return {run: cost(run) for run in runs}


def _images(run: PlannedRun, settings: dict[str, Any]) -> Data:
    """The data of a run, loaded lazily; images that are not packed yet are read from their source."""
    found = {name: settings[name] for name in ("data", "size", "val_fraction")}
    pack = count.ancestor(run, "pack")
    if pack and not (pack.output / "pack.json").exists():
        source = count.settings_of(pack)
        found = {name: source[name] for name in found} | {"size": found["size"] or source["size"]}
    elif source_of(found["data"]).is_packed:
        # The packed folder already has a separate validation part.
        found["val_fraction"] = None
    return Data(**found, cache="none")

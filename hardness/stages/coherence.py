"""Gradient coherence: RUN/coherence.parquet, which ``track`` and ``score --coherence`` write."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from hardness import files, seeding
from hardness.console import progress, remark
from hardness.errors import UserError
from hardness.probes.tracked_model import TrackedModel
from hardness.stages.run_folder import split_settings
from hardness.subsets import SUBSETS, matched_samples
from hardness.training import checkpoint
from hardness.training.measure import Group, measure_coherence


def add_coherence(run: Path, rows: pd.DataFrame, fingerprint: str) -> Path:
    """Put rows in RUN/coherence.parquet, in the place of those of the same epochs and groups."""
    return _write(run, rows, fingerprint, lambda old: _keys(old).isin(_keys(rows)))


def subset_coherence(tracked: TrackedModel, split: Path, size: int) -> Path:
    """Measure the subsets of a split of the run, at every epoch whose weights were kept -> the file.

    Of several controls the first; what was measured of an earlier split goes.
    """
    fingerprint = tracked.job.data.fingerprint
    if tracked.job.seed not in split_settings(split)["tracking_seeds"]:
        found = f"one of tracking seeds {split_settings(split)['tracking_seeds']}"
        raise UserError(f"a split of {tracked.run}, seed {tracked.job.seed}", found, "name its own")
    subsets = files.read_table(split, fingerprint).to_pandas()
    members = {
        name: group["example_id"].to_numpy()
        for name, group in subsets.groupby("subset", sort=False)
        if name in SUBSETS
    }
    images = tracked.examples
    generator = seeding.generator(tracked.job.seed, "coherence sample")
    samples = matched_samples(members, images.given_labels.numpy(), size, generator)
    m = len(samples["easy"])
    if m < 2:
        expected = f"two examples or more of each subset of {split}, of each class as many"
        raise UserError(expected, str(m), "split with --balance class")
    if m < size:
        remark(f"coherence of {m} examples, not {size}: the subsets have no more of the same classes")
    groups = [Group(name, images, ids) for name, ids in samples.items()]
    epochs = checkpoint.kept_epochs(tracked.run)
    if not epochs:
        remark("coherence after the last epoch alone: only track --checkpoint-every keeps others")
    last = checkpoint.load_weights(tracked.run, tracked.model, tracked.resources.device)
    tables = []
    for epoch in progress([*epochs, *([] if last in epochs else [None])], len({*epochs, last}), "coherence"):
        found = checkpoint.load_weights(tracked.run, tracked.model, tracked.resources.device, epoch)
        tables.append(measure_coherence(tracked.model, groups, found, tracked.resources))
    return _write(tracked.run, pd.concat(tables), fingerprint, lambda old: old["measured_on"].isin(SUBSETS))


def _write(
    run: Path, rows: pd.DataFrame, fingerprint: str, is_replaced: Callable[[pd.DataFrame], np.ndarray]
) -> Path:
    path = run / "coherence.parquet"
    if path.exists():
        old = files.read_table(path, fingerprint).to_pandas()
        rows = pd.concat([old[~is_replaced(old)], rows], ignore_index=True)
    files.write_table(path, rows.sort_values(["epoch", "measured_on"], kind="stable"), fingerprint)
    return path


def _keys(rows: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(rows[["epoch", "measured_on"]])

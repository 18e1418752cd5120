"""Gradient coherence: RUN/coherence.parquet, which ``track`` and ``score --coherence`` write."""

from pathlib import Path

import pandas as pd

from hardness import files, seeding
from hardness.console import progress, remark
from hardness.errors import UserError
from hardness.probes.subject import Subject
from hardness.subsets import matched_samples
from hardness.training import checkpoint
from hardness.training.measure import Group, measure_coherence


def add_coherence(run: Path, rows: pd.DataFrame, fingerprint: str) -> Path:
    """Put rows in RUN/coherence.parquet, in the place of those of the same epochs and groups."""
    path = run / "coherence.parquet"
    if path.exists():
        old = files.read_table(path, fingerprint).to_pandas()
        keys = ["epoch", "measured_on"]
        is_new = pd.MultiIndex.from_frame(old[keys]).isin(pd.MultiIndex.from_frame(rows[keys]))
        rows = pd.concat([old[~is_new], rows], ignore_index=True)
    files.write_table(path, rows.sort_values(["epoch", "measured_on"], kind="stable"), fingerprint)
    return path


def subset_coherence(subject: Subject, split: Path | None, size: int) -> Path:
    """Measure the subsets of a split of the run, at every epoch whose weights were kept -> the file."""
    split = split or _newest_split(subject.run)
    fingerprint = subject.data.fingerprint
    subsets = files.read_table(split, fingerprint).to_pandas()
    members = {name: group["example_id"].to_numpy() for name, group in subsets.groupby("subset", sort=False)}
    images = subject.data.train
    generator = seeding.generator(subject.config.seed, "coherence sample")
    samples = matched_samples(members, images.given_labels.numpy(), size, generator)
    m = len(samples["easy"])
    if m < 2:
        found = "none" if m == 0 else "one"
        do = "split with --balance class"
        raise UserError(f"classes that all subsets of {split} share", f"{found} such example", do)
    if m < size:
        remark(f"coherence of {m} examples, not {size}: the subsets have no more of the same classes")
    groups = [Group(name, images, ids) for name, ids in samples.items()]
    epochs = checkpoint.kept_epochs(subject.run)
    if not epochs:
        remark("coherence after the last epoch alone: only track --checkpoint-every keeps others")
    tables = []
    for epoch in progress(epochs or [None], len(epochs) or 1, "coherence"):
        found = checkpoint.load_weights(subject.run, subject.model, subject.device, epoch)
        tables.append(measure_coherence(subject.model, groups, found, subject.device, subject.workers))
    return add_coherence(subject.run, pd.concat(tables), fingerprint)


def _newest_split(run: Path) -> Path:
    splits = sorted((run / "splits").glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    if not splits:
        raise UserError(f"a split in {run / 'splits'}", "none", "run `hardness split` first, or pass --split")
    return splits[-1]

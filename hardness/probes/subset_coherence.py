"""The gradient coherence of the subsets of a split."""

from pathlib import Path

import pandas as pd

from hardness import files, seeding
from hardness.console import progress, remark
from hardness.errors import UserError
from hardness.probes.tracked_model import TrackedModel
from hardness.runs.coherence import replace_rows
from hardness.runs.reading import split_settings
from hardness.subsets import SUBSETS, matched_samples
from hardness.training import checkpoint
from hardness.training.measure import Group, measure_coherence


def subset_coherence(tracked: TrackedModel, split: Path, size: int) -> Path:
    """Measure the subsets of a split of the run, at every epoch whose weights were kept -> the file.

    Of several controls the first is measured. Rows of an earlier split are replaced.
    """
    fingerprint = tracked.job.data.fingerprint
    if (seed := tracked.job.seed) not in (seeds := split_settings(split)["tracking_seeds"]):
        sentence = "{split} is a split of runs with seeds {seeds}; {run} has seed {seed}."
        values = {"split": str(split), "seeds": seeds, "run": str(tracked.run), "seed": seed}
        raise UserError("split-of-other-run", sentence, "Pass a split of this run.", **values)
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
        sentence = "Class-matched samples of the subsets of {split} have {count} examples; 2 are needed."
        hint = "Split with --balance class."
        raise UserError("too-few-matched-examples", sentence, hint, split=str(split), count=m)
    if m < size:
        remark(f"coherence of {m} examples, not {size}: class-matched samples are no larger")
    groups = [Group(name, images, ids) for name, ids in samples.items()]
    epochs = checkpoint.kept_epochs(tracked.run)
    if not epochs:
        remark("coherence at the last epoch only: track with --checkpoint-every to keep other weights")
    last = checkpoint.load_weights(tracked.run, tracked.model, tracked.resources.device)
    tables = []
    for epoch in progress([*epochs, *([] if last in epochs else [None])], len({*epochs, last}), "coherence"):
        found = checkpoint.load_weights(tracked.run, tracked.model, tracked.resources.device, epoch)
        tables.append(measure_coherence(tracked.model, groups, found, tracked.resources))
    return replace_rows(
        tracked.run, pd.concat(tables), fingerprint, lambda old: old["measured_on"].isin(SUBSETS)
    )

"""How well scores find wrong labels, compared with two packages for label errors on the same runs.

    python -m tests.benchmarks.label_errors RUN ... > TABLE.md

RUN: tracked runs with label noise that differ only in their seeds and have the score self-confidence
(cleanlab uses its out-of-fold probabilities). The package aum records the training passes, as its authors
do: the run is trained again with the same seed.
"""

import argparse
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
from aum import AUMCalculator
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from torch import Tensor

from hardness import files
from hardness.findings.label_errors import detection
from hardness.probes.self_confidence import out_of_fold
from hardness.probes.tracked_model import TrackedModel
from hardness.probes.tracked_run import open_tracked
from hardness.runs.reading import finished_info
from hardness.settings.score import Score
from hardness.statistics import Estimate


class AumRecorder:
    """Takes the place of a Recorder in training: passes each batch to the package aum."""

    def __init__(self, folder: str):
        self.calculator = AUMCalculator(folder, compressed=True)

    def update(self, example_ids: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.calculator.update(logits, labels, example_ids.tolist())

    def result(self, num_examples: int) -> np.ndarray:
        self.calculator.finalize()
        values = pd.read_csv(Path(self.calculator.save_dir) / "aum_values.csv").set_index("sample_id")["aum"]
        return values.loc[range(num_examples)].to_numpy()


def by_aum(tracked: TrackedModel) -> np.ndarray:
    """(N,): smaller values are more likely to be wrong labels."""
    with tempfile.TemporaryDirectory() as folder:
        recorder = AumRecorder(folder)
        for _ in tracked.job.start().epochs(recorder=recorder):
            pass
        return recorder.result(len(tracked.examples))


def by_cleanlab(tracked: TrackedModel, method: str) -> np.ndarray:
    """(N,): smaller values are more likely to be wrong labels.

    ``issues``: examples that ``find_label_issues`` returns have the smallest values.
    """
    labels = tracked.examples.given_labels.numpy()
    probabilities = np.empty((len(labels), tracked.job.data.num_classes))
    for fold, found in out_of_fold(tracked):
        probabilities[fold] = found
    if method != "issues":
        return get_label_quality_scores(labels, probabilities, method=method)
    is_issue = find_label_issues(labels, probabilities)
    return get_label_quality_scores(labels, probabilities, method="self_confidence") - is_issue


def evaluate_run(run: Path) -> pd.DataFrame:
    info = finished_info(run, "track")
    table = files.read_table(run / "scores.parquet", info["fingerprint"]).to_pandas()
    examples = files.read_table(run / "examples.parquet", info["fingerprint"], ["is_corrupt"])
    is_corrupt = examples["is_corrupt"].to_numpy()
    with redirect_stdout(sys.stderr):
        tracked = open_tracked(run, info, Score(run=(run,)))
        peers = {
            "aum (package)": by_aum(tracked),
            "cleanlab, find_label_issues": by_cleanlab(tracked, "issues"),
            "cleanlab, normalized_margin": by_cleanlab(tracked, "normalized_margin"),
        }
    parts = [detection(table, is_corrupt)]
    for name, quality in peers.items():
        # Evaluated as the score aum, whose smaller values are harder.
        as_score = table[["example_id", "mean_loss"]].assign(aum=quality)
        evaluated = detection(as_score, is_corrupt)
        parts.append(evaluated[evaluated["score"] == "aum"].assign(score=name))
    return pd.concat(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    evaluated = pd.concat([evaluate_run(run) for run in parser.parse_args().runs])
    rows = {
        name: [Estimate.of(found[value]) for value in ("average_precision", "auroc")]
        for name, found in evaluated.groupby("score", sort=False)
    }
    fraction = (evaluated["num_corrupt"] / evaluated["num_examples"]).mean()
    print(f"| score | average precision (chance: {fraction:.3f}) | AUROC |\n| --- | --- | --- |")
    for name, (precision, auroc) in sorted(rows.items(), key=lambda row: -row[1][0].mean):
        print(f"| {name} | {precision} | {auroc} |")


if __name__ == "__main__":
    main()

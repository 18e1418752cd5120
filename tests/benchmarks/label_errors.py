"""Which scores find wrong labels, and how the packages made for that do on the same runs.

    python -m tests.benchmarks.label_errors RUN ... > TABLE.md

RUN: tracked runs that differ in their seeds alone, under label noise, scored with self-confidence (whose
out-of-fold probabilities cleanlab takes). The package aum is fed as its authors do, in the training passes:
the run is trained once more, from its own seed.
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


class Fed:
    """What a Recorder is to ``fit``: hands each batch to the package aum."""

    def __init__(self, folder: str):
        self.calculator = AUMCalculator(folder, compressed=True)

    def update(self, example_ids: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.calculator.update(logits, labels, example_ids.tolist())

    def result(self, num_examples: int) -> np.ndarray:
        self.calculator.finalize()
        found = pd.read_csv(Path(self.calculator.save_dir) / "aum_values.csv").set_index("sample_id")["aum"]
        return found.loc[range(num_examples)].to_numpy()


def by_aum(asked: TrackedModel) -> np.ndarray:
    """(N,): the smaller, the likelier wrong."""
    with tempfile.TemporaryDirectory() as folder:
        fed = Fed(folder)
        for _ in asked.job.start().epochs(recorder=fed):
            pass
        return fed.result(len(asked.examples))


def by_cleanlab(asked: TrackedModel, method: str) -> np.ndarray:
    """(N,): the smaller, the likelier wrong. ``issues``: what ``find_label_issues`` finds comes first."""
    labels = asked.examples.given_labels.numpy()
    probabilities = np.empty((len(labels), asked.job.data.num_classes))
    for fold, found in out_of_fold(asked):
        probabilities[fold] = found
    if method != "issues":
        return get_label_quality_scores(labels, probabilities, method=method)
    is_issue = find_label_issues(labels, probabilities)
    return get_label_quality_scores(labels, probabilities, method="self_confidence") - is_issue


def judge(run: Path) -> pd.DataFrame:
    info = finished_info(run, "track")
    table = files.read_table(run / "scores.parquet", info["fingerprint"]).to_pandas()
    truth = files.read_table(run / "examples.parquet", info["fingerprint"], ["is_corrupt"])
    is_corrupt = truth["is_corrupt"].to_numpy()
    with redirect_stdout(sys.stderr):
        asked = open_tracked(run, info, Score(run=(run,)))
        peers = {
            "aum (package)": by_aum(asked),
            "cleanlab, find_label_issues": by_cleanlab(asked, "issues"),
            "cleanlab, normalized_margin": by_cleanlab(asked, "normalized_margin"),
        }
    parts = [detection(table, is_corrupt)]
    for name, quality in peers.items():
        # As one more score of the table, by which a smaller value is the harder.
        as_score = table[["example_id", "mean_loss"]].assign(aum=quality)
        judged = detection(as_score, is_corrupt)
        parts.append(judged[judged["score"] == "aum"].assign(score=name))
    return pd.concat(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    judged = pd.concat([judge(run) for run in parser.parse_args().runs])
    rows = {
        name: [Estimate.of(found[value]) for value in ("average_precision", "auroc")]
        for name, found in judged.groupby("score", sort=False)
    }
    share = (judged["num_corrupt"] / judged["num_examples"]).mean()
    print(f"| score | average precision (chance: {share:.3f}) | AUROC |\n| --- | --- | --- |")
    for name, (precision, auroc) in sorted(rows.items(), key=lambda row: -row[1][0].mean):
        print(f"| {name} | {precision} | {auroc} |")


if __name__ == "__main__":
    main()

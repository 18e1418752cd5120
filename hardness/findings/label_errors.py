"""Which labels are likely wrong, and which scores detect them?"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from hardness.dynamics.pool import common_scores, ranks
from hardness.errors import UserError
from hardness.findings.words import Words, includes_0
from hardness.statistics import Estimate


def label_issues(labels: np.ndarray, predictions: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """(N,) bool: the prediction is another class, and the label's probability is below its class's threshold.

    labels, predictions: (N,) int of given and predicted class; quality: (N,) the given label's probability. A
    class's threshold is the mean over the examples with that label (confident learning, Northcutt et al.
    2021, arXiv:1911.00068, equation 2); their full rule (equation 1) needs the other classes' probabilities.
    """
    counts = np.bincount(labels)
    thresholds = np.bincount(labels, weights=quality) / np.maximum(counts, 1)
    return (predictions != labels) & (quality < thresholds[labels])


def can_be_judged(table: pd.DataFrame, is_corrupt: np.ndarray) -> bool:
    """Whether some readable examples have corrupt labels and others do not."""
    truth = is_corrupt[table["mean_loss"].notna().to_numpy()]
    return bool(truth.any() and not truth.all())


def detection(table: pd.DataFrame, is_corrupt: np.ndarray) -> pd.DataFrame:
    """One row per score of the table: score, auroc, average_precision, num_corrupt, num_examples.

    is_corrupt: (N,) bool, the ground truth. The hardest examples are the most suspicious, never-learned ones
    first; unreadable ones are left out. By chance, AUROC is 0.5 and average precision is the share of corrupt
    labels. Raises ``UserError`` unless some labels are corrupt and some are not.
    """
    rows = []
    for name in common_scores([table]):
        suspicion, truth = _suspicion(table, name, is_corrupt)
        found = roc_auc_score(truth, suspicion), average_precision_score(truth, suspicion)
        rows.append((name, *found, truth.sum(), len(truth)))
    return pd.DataFrame(rows, columns=["score", "auroc", "average_precision", "num_corrupt", "num_examples"])


def precision_recall(table: pd.DataFrame, by: str, is_corrupt: np.ndarray) -> pd.DataFrame:
    """Columns recall, precision at each threshold of the score, with increasing recall."""
    suspicion, truth = _suspicion(table, by, is_corrupt)
    precision, recall, _ = precision_recall_curve(truth, suspicion)
    # scikit-learn ends with a point without any suspects, whose precision is undefined.
    return pd.DataFrame({"recall": recall[-2::-1], "precision": precision[-2::-1]})


def _suspicion(table: pd.DataFrame, by: str, is_corrupt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not can_be_judged(table, is_corrupt):
        sentence = "Either all known labels are corrupt or none is: there is nothing to detect."
        raise UserError("no-corrupt-labels", sentence, "Track with --noise or --given-labels.")
    found = ranks(table, by)
    is_readable = ~np.isnan(found)
    return found[is_readable], is_corrupt[is_readable]


@dataclass(frozen=True)
class LabelErrors:
    """How well each score ranks corrupt labels before pristine ones, over runs."""

    auroc: dict[str, Estimate]
    """By score, as is average_precision."""
    average_precision: dict[str, Estimate]
    best: str
    """The score with the largest mean average precision."""
    second: str
    lead: Estimate
    """Average precision of the best score minus that of the second best, paired by run."""
    chance: float
    """Average precision by chance."""

    @classmethod
    def of(cls, found: pd.DataFrame) -> "LabelErrors":
        """found: the rows of ``detection`` on each run, with the same scores in each, at least two."""
        by_score = found.groupby("score", sort=False)
        precision = {name: values.to_numpy() for name, values in by_score["average_precision"]}
        # Ties in alphabetical order.
        means = found.groupby("score")["average_precision"].mean()
        best, second = means.sort_values(ascending=False, kind="stable").index[:2]
        return cls(
            {name: Estimate.of(values) for name, values in by_score["auroc"]},
            {name: Estimate.of(values) for name, values in precision.items()},
            best,
            second,
            Estimate.of(precision[best] - precision[second]),
            float((found["num_corrupt"] / found["num_examples"]).mean()),
        )

    def estimates(self) -> dict[str, Estimate]:
        found = {}
        for name in self.auroc:
            found[f"{name}: auroc"] = self.auroc[name]
            found[f"{name}: average precision"] = self.average_precision[name]
        return found | {f"{self.best} - {self.second}: average precision": self.lead}

    def words(self) -> Words:
        found = f"average precision {self.average_precision[self.best]}, by chance {self.chance:.3f}"
        tie = "" if self.lead.sign > 0 else " (difference not significant)"
        sentence = (
            f"Of {len(self.auroc)} scores, {self.best} detects corrupt labels best: {found}; AUROC "
            f"{self.auroc[self.best]}. The average precision of the second best, {self.second}, is lower by "
            f"{self.lead}{includes_0(self.lead)}. The best of many scores is partly the best by luck."
        )
        headline = f"{self.best} detects corrupt labels best: {found}. Second best: {self.second}{tie}."
        return Words(headline, [sentence], {"scores": len(self.auroc), "chance": self.chance})

"""Which labels are likely wrong, and how well a score finds them: pure functions."""

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from hardness.dynamics.pool import ranks
from hardness.errors import UserError


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
    for name in table.columns.drop("example_id"):
        suspicion, truth = _suspicion(table, name, is_corrupt)
        rows.append(
            {
                "score": name,
                "auroc": float(roc_auc_score(truth, suspicion)),
                "average_precision": float(average_precision_score(truth, suspicion)),
                "num_corrupt": int(truth.sum()),
                "num_examples": len(truth),
            }
        )
    return pd.DataFrame(rows)


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

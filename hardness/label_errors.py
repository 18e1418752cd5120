"""Which labels are wrong, and how well a score finds them: pure functions."""

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from hardness.dynamics.pool import ranks
from hardness.errors import UserError


def label_issues(labels: np.ndarray, predictions: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """(N,) bool: the prediction is another class, and the label's probability is below its class's threshold.

    labels, predictions: (N,) int of given and predicted class; quality: (N,) the given label's probability. A
    class's threshold is the mean over the examples given it (confident learning, Northcutt et al. 2021,
    arXiv:1911.00068, equation 2); their whole rule (equation 1) needs the probabilities of the other classes.
    """
    counts = np.bincount(labels)
    thresholds = np.bincount(labels, weights=quality) / np.maximum(counts, 1)
    return (predictions != labels) & (quality < thresholds[labels])


def can_be_judged(table: pd.DataFrame, is_corrupt: np.ndarray) -> bool:
    """Is the label of some readable example corrupt, and of some not?"""
    truth = is_corrupt[table["mean_loss"].notna().to_numpy()]
    return bool(truth.any() and not truth.all())


def detection(table: pd.DataFrame, is_corrupt: np.ndarray) -> pd.DataFrame:
    """A row a score of the table: score, auroc, average_precision, num_corrupt, num_examples.

    is_corrupt: (N,) bool, the truth. The hardest examples are the suspects, never-learned ones before all
    others; unreadable ones are left out. By chance alone the AUROC is 0.5 and the average precision the share
    of corrupt labels. Raises ``UserError`` unless some labels are corrupt and some are not.
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
    """Columns recall, precision: of the suspects down to each value of the score, recall rising."""
    suspicion, truth = _suspicion(table, by, is_corrupt)
    precision, recall, _ = precision_recall_curve(truth, suspicion)
    # scikit-learn ends with a point of no suspects, which has no precision.
    return pd.DataFrame({"recall": recall[-2::-1], "precision": precision[-2::-1]})


def _suspicion(table: pd.DataFrame, by: str, is_corrupt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not can_be_judged(table, is_corrupt):
        found = "all are, or none is"
        raise UserError("labels of which some are known to be corrupt", found, "track under label noise")
    found = ranks(table, by)
    is_readable = ~np.isnan(found)
    return found[is_readable], is_corrupt[is_readable]

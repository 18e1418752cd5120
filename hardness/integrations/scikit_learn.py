"""scikit-learn's boosted classifiers: a boosting round is an epoch."""

from typing import Any

import numpy as np

from hardness.dynamics.recorder import Recorder


def record_staged(estimator: Any, X: Any, y: Any, recorder: Recorder) -> None:
    """Record a fitted classifier after each of its stages, and end an epoch each time.

    estimator: has ``classes_`` and ``staged_predict_proba``, as GradientBoostingClassifier,
    HistGradientBoostingClassifier and AdaBoostClassifier do. X, y: the N examples that it was fitted on, in
    the order of their ids. Recorded logits are log-probabilities: loss and EL2N are those of the
    probabilities, and the margin is the difference of two log-probabilities.

    Raises ``ValueError`` for a label that the classifier does not know.
    """
    classes, labels = np.asarray(estimator.classes_), np.asarray(y)
    order = np.argsort(classes)
    places = np.searchsorted(classes, labels, sorter=order).clip(max=len(classes) - 1)
    indices = order[places]
    if (unknown := classes[indices] != labels).any():
        raise ValueError(f"the estimator does not know the label {labels[unknown][0]!r}")
    ids = np.arange(len(labels))
    for probabilities in estimator.staged_predict_proba(X):
        # The smallest positive number instead of 0: a loss must be finite.
        logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
        recorder.update(ids, logits, indices)
        recorder.end_epoch()

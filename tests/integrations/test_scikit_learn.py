"""Boosting and a network on one table, recorded and compared by the command line."""

import re

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import AdaBoostClassifier, GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.metrics import log_loss

import hardness
from hardness import Recorder
from hardness.dynamics import store
from hardness.integrations.scikit_learn import record_staged
from hardness.settings.score import Score
from hardness.stages.score import score

ROUNDS = 5


@pytest.fixture(scope="module")
def table():
    X, y = load_breast_cancer(return_X_y=True)
    return (X - X.mean(0)) / X.std(0), np.array(["malignant", "benign"])[y]


@pytest.mark.parametrize(
    "estimator",
    [
        GradientBoostingClassifier(n_estimators=ROUNDS, random_state=0),
        HistGradientBoostingClassifier(max_iter=ROUNDS, random_state=0, early_stopping=False),
        AdaBoostClassifier(n_estimators=ROUNDS, random_state=0),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_a_round_is_an_epoch(tmp_path, table, estimator):
    X, y = table
    estimator.fit(X, y)
    with Recorder(tmp_path, len(y), precision="float32") as recorder:
        record_staged(estimator, X, y, recorder)
    assert store.recorded_epochs(tmp_path) == [*range(1, ROUNDS + 1)]
    for epoch, probabilities in enumerate(estimator.staged_predict_proba(X), 1):
        records = store.read_epoch(tmp_path, epoch)
        assert records.loss.mean() == pytest.approx(
            log_loss(y, probabilities, labels=estimator.classes_), rel=1e-4
        )
        predicted = estimator.classes_[probabilities.argmax(1)]
        assert np.mean(records.is_correct) == pytest.approx(np.mean(predicted == y))


def test_an_unknown_label_is_refused(tmp_path, table):
    X, y = table
    estimator = AdaBoostClassifier(n_estimators=2).fit(X, y)
    with Recorder(tmp_path, 1) as recorder, pytest.raises(ValueError, match="'other'"):
        record_staged(estimator, X[:1], ["other"], recorder)


def test_boosting_and_a_network_are_compared(tmp_path, table, capsys):
    X, y = table
    estimator = GradientBoostingClassifier(n_estimators=30, random_state=0).fit(X, y)
    with Recorder(tmp_path / "boosting", len(y)) as recorder:
        recorder.describe(class_names=estimator.classes_, rows=[{"radius": row[0]} for row in X])
        record_staged(estimator, X, y, recorder)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.tensor(X, dtype=torch.float32)
    labels = torch.tensor(y == "malignant").long()
    weights = torch.zeros(2, inputs.shape[1], requires_grad=True)
    with Recorder(tmp_path / "linear", len(y)) as recorder:
        recorder.describe(class_names=estimator.classes_)
        for _ in range(3):
            for ids in torch.randperm(len(y), generator=generator).split(50):
                logits = inputs[ids] @ weights.T
                recorder.update(ids, logits, labels[ids])
                loss = torch.nn.functional.cross_entropy(logits, labels[ids])
                (gradient,) = torch.autograd.grad(loss, weights)
                weights = (weights - 0.1 * gradient).detach().requires_grad_()
            recorder.end_epoch()
    score(Score(run=(tmp_path / "boosting", tmp_path / "linear")))
    out = capsys.readouterr().out
    assert "Spearman correlation of two runs over 569 examples" in out
    first, second = (hardness.scores(tmp_path / name)["mean_loss"] for name in ("boosting", "linear"))
    correlation = first.corr(second, method="spearman")
    assert re.search(rf"mean_loss +{correlation:.3f}", out)

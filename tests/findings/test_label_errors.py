import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardness.findings.label_errors import (
    LabelErrors,
    can_be_judged,
    detection,
    label_issues,
    precision_recall,
)
from tests.conftest import refused

# The last example was never learned; the fifth is unreadable.
TABLE = pd.DataFrame(
    {
        "example_id": range(6),
        "first_learned_epoch": [1, 1, 3, 2, None, None],
        "aum": [5.0, 4.0, 1.0, 2.0, None, -3.0],
        "mean_loss": [0.1, 0.2, 2.0, 0.5, None, 1.0],
    }
)
IS_CORRUPT = np.array([False, False, False, True, True, True])


def test_five_examples_worked_by_hand():
    """Truth by suspicion: corrupt (never learned), pristine (epoch 3), corrupt (2), pristine, pristine."""
    found = detection(TABLE, IS_CORRUPT).set_index("score")
    assert (found["num_corrupt"] == 2).all()
    assert (found["num_examples"] == 5).all()
    # Of the 2 x 3 pairs of a corrupt and a pristine example, all but one are in order.
    assert found.loc["first_learned_epoch", "auroc"] == pytest.approx(5 / 6)
    # Precision 1 at the first corrupt one, 2/3 at the second.
    assert found.loc["first_learned_epoch", "average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    # The margin gives the same order; by loss, the pristine example of epoch 3 comes first.
    assert found.loc["aum"].tolist() == found.loc["first_learned_epoch"].tolist()
    assert found.loc["mean_loss", "auroc"] == pytest.approx(4 / 6)
    assert found.loc["mean_loss", "average_precision"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_issues_are_below_their_class_and_predicted_otherwise():
    labels = np.array([0, 0, 0, 0, 2, 2])
    quality = np.array([0.9, 0.3, 0.2, 0.6, 0.4, 0.2])
    predictions = np.array([0, 2, 0, 2, 0, 1])
    # Thresholds: 2.0 / 4 = 0.5 of class 0, 0.6 / 2 = 0.3 of class 2; no example has class 1.
    assert label_issues(labels, predictions, quality).tolist() == [False, True, False, False, False, True]


def test_the_curve_of_the_same_five():
    curve = precision_recall(TABLE, "aum", IS_CORRUPT)
    assert curve["recall"].tolist() == [0.5, 0.5, 1, 1, 1]
    assert curve["precision"].tolist() == pytest.approx([1, 1 / 2, 2 / 3, 2 / 4, 2 / 5])


@pytest.mark.parametrize("truth", [False, True])
def test_without_both_kinds_there_is_nothing_to_find(truth):
    # The unreadable example does not count.
    is_corrupt = np.where(TABLE["example_id"] == 4, not truth, truth)
    assert not can_be_judged(TABLE, is_corrupt)
    assert can_be_judged(TABLE, IS_CORRUPT)
    with refused("no-corrupt-labels"):
        detection(TABLE, is_corrupt)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=20))
def test_auroc_is_the_share_of_pairs_in_order(examples):
    values, truth = map(np.array, zip(*examples, strict=True))
    if truth.all() or not truth.any():
        return
    table = pd.DataFrame({"example_id": range(len(values)), "mean_loss": values.astype(float)})
    pairs = [(a > b) + (a == b) / 2 for a in values[truth] for b in values[~truth]]
    assert detection(table, truth).loc[0, "auroc"] == pytest.approx(np.mean(pairs))


def test_the_best_score_is_compared_with_the_second_best_by_run():
    rows = [
        (name, auroc, precision - 0.01 * run, 2, 5)
        for run in range(2)
        for name, auroc, precision in (("el2n", 0.9, 0.5), ("aum", 0.8, 0.5 + 0.1 * run), ("loss", 0.7, 0.4))
    ]
    columns = ["score", "auroc", "average_precision", "num_corrupt", "num_examples"]
    found = LabelErrors.of(pd.DataFrame(rows, columns=columns))
    assert (found.best, found.second) == ("aum", "el2n")
    assert (found.lead.mean, found.lead.num_seeds) == (pytest.approx(0.05), 2)
    assert found.chance == pytest.approx(0.4)
    assert list(found.estimates()) == [
        *(f"{name}: {value}" for name in ("el2n", "aum", "loss") for value in ("auroc", "average precision")),
        "aum - el2n: average precision",
    ]

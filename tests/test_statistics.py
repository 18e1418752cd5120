import pandas as pd
import pytest

from hardness.statistics import Estimate, summarize


def test_a_hand_worked_interval():
    # 1, 2, 3: mean 2, deviation 1, t(0.975, 2) = 4.302653, half width 4.302653 / sqrt 3.
    estimate = Estimate.of([1, 2, 3])
    assert (estimate.mean, estimate.num_seeds) == (2, 3)
    assert estimate.low == pytest.approx(2 - 2.484138, abs=1e-5)
    assert estimate.high == pytest.approx(2 + 2.484138, abs=1e-5)
    assert estimate.sign == 0
    assert str(estimate) == "2.000 [-0.484, 4.484] (3 seeds)"


def test_one_seed_gives_no_interval_and_no_sign():
    estimate = Estimate.of([0.7])
    assert (estimate.low, estimate.high, estimate.sign) == (None, None, 0)
    assert str(estimate) == "0.700 (one seed: no interval)"


@pytest.mark.parametrize(("values", "sign"), [([1, 1.1], 1), ([-1, -1.1], -1), ([-1, 1], 0)])
def test_the_sign_is_that_of_an_interval_that_excludes_0(values, sign):
    assert Estimate.of(values).sign == sign


def test_summaries_keep_the_order_of_groups():
    table = pd.DataFrame({"name": ["b", "b", "a"], "x": [1.0, 3.0, 5.0], "y": [0.0, 0.0, 1.0]})
    summary = summarize(table, ["name"], ["x", "y"])
    assert summary[["name", "value"]].to_numpy().tolist() == [["b", "x"], ["b", "y"], ["a", "x"], ["a", "y"]]
    assert summary["mean"].tolist() == [2, 0, 5, 1]
    assert summary["low"].isna().tolist() == [False, False, True, True]

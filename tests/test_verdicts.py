import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardness.subsets import SUBSETS
from hardness.verdicts import (
    at_first_crossing,
    compared,
    equal_pristine,
    hardness_verdicts,
    memorization,
    own_and_controls,
    transfer_matrix,
)
from hardness.wording import hardness_words, memorization_words
from tests.curves import noisy, retraining, three_optimizers, with_controls


def test_the_hardness_verdicts_by_hand():
    verdicts = hardness_verdicts(retraining(easy=0.95, hard=0.4))
    assert verdicts["within-subset"].mean == pytest.approx(0.55)
    assert verdicts["within-subset"].sign == 1
    assert verdicts["within-subset"].num_seeds == 3
    assert verdicts["own-subset advantage of easy"].mean == pytest.approx(0.05)
    assert verdicts["own-subset advantage of hard"].mean == pytest.approx(0.1)
    assert verdicts["easy train"].mean == pytest.approx(0.501)


def test_the_unit_is_the_tracking_seed():
    matrix = transfer_matrix(retraining(easy=0.95, hard=0.4, seeds=2))
    assert matrix.loc[("1", "easy"), "easy"] == pytest.approx(0.951)
    verdicts = hardness_verdicts(retraining(easy=0.95, hard=0.4, seeds=1))
    assert verdicts["within-subset"].low is None


def test_the_place_among_controls_by_hand():
    # Mean 0.7, deviations -0.1, -0.1, 0, 0.2: standard deviation sqrt(0.06 / 3).
    curves = with_controls(0.8, [0.6, 0.6, 0.7, 0.9])
    verdicts = hardness_verdicts(curves)
    assert verdicts["easy-control->easy"].mean == pytest.approx(0.7)
    assert verdicts["own-subset advantage of easy"].mean == pytest.approx(0.1)
    among = "easy among its controls, tracking seed 0"
    assert verdicts[f"{among}: controls"].mean == 4
    assert verdicts[f"{among}: standard deviation"].mean == pytest.approx(0.02**0.5)
    assert verdicts[f"{among}: distance in standard deviations"].mean == pytest.approx(0.1 / 0.02**0.5)
    # One of four is as accurate: (1 + 1) / (4 + 1).
    assert verdicts[f"{among}: p-value"].mean == pytest.approx(0.4)
    assert not any(key.startswith("hard among its controls") for key in verdicts)
    assert verdicts[f"{among}: least p-value that there can be"].mean == pytest.approx(0.2)
    matrix = transfer_matrix(curves)
    assert matrix.index.get_level_values("trained_on").tolist() == sorted(SUBSETS)
    found = own_and_controls(curves).query("subset == 'easy'")
    assert found["is_control"].tolist() == [False, True, True, True, True]
    assert found["top1"].tolist() == pytest.approx([0.8, 0.6, 0.6, 0.7, 0.9])


def test_controls_that_are_all_equal_have_no_standard_deviations_to_count():
    verdicts = hardness_verdicts(with_controls(0.9, [0.9, 0.9]))
    assert verdicts["easy among its controls, tracking seed 0: p-value"].mean == 1
    assert not any("distance" in key for key in verdicts)
    assert "standard deviations" not in hardness_words(verdicts).sentences[2]


@settings(max_examples=6)
@given(st.integers(2, 6), st.integers(0, 1000))
def test_under_the_null_p_is_at_most_alpha_as_often_as_it_says(num_controls, seed):
    """Any of subset and controls may be the subset: of the p-values at most a share alpha is up to alpha."""
    accuracies = np.random.default_rng(seed).integers(0, 8, num_controls + 1) / 8
    p_values = []
    for own in range(num_controls + 1):
        controls = np.delete(accuracies, own)
        curves = with_controls(accuracies[own], controls)
        p_values.append(hardness_verdicts(curves)["easy among its controls, tracking seed 0: p-value"].mean)
    for alpha in np.unique(p_values):
        assert np.mean(np.array(p_values) <= alpha + 1e-9) <= alpha + 1e-9


def test_crossings_by_hand():
    rising, values = np.array([0.1, 0.5, 0.4, 0.9]), np.array([0.0, 1.0, 2.0, 3.0])
    # 0.3 is half way to the first epoch; 0.5 is reached there; 0.65 is half way from 0.4 to 0.9.
    assert at_first_crossing(rising, values, np.array([0.1, 0.3, 0.5, 0.65])) == pytest.approx(
        [0, 0.5, 1, 2.5]
    )


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_at_a_crossing_the_curve_reads_its_own_level(curve):
    curve = np.array(curve)
    grid = np.linspace(curve[0], curve.max(), 7)
    assert at_first_crossing(curve, curve, grid) == pytest.approx(grid)


def test_equal_pristine_by_hand():
    across = equal_pristine(
        noisy(
            {
                ("sgd", 0): ([0.1, 0.5, 0.9], [0.1, 0.1, 0.9]),
                ("m3", 0): ([0.1, 0.3, 0.7], [0.1, 0.1, 0.3]),
            }
        )
    )
    assert across.grid[[0, -1]] == pytest.approx([0.1, 0.7])
    # SGD crosses 0.7 half way from 0.5 to 0.9: corrupt 0.5. M3 ends there: 0.3.
    assert across.at_maximum("sgd").tolist() == pytest.approx([0.5])
    assert across.at_maximum("m3").tolist() == pytest.approx([0.3])
    assert across.clean_at_maximum("m3").tolist() == pytest.approx([0.7])
    assert across.mean_over_grid("sgd")[0] > across.mean_over_grid("m3")[0]


def test_what_is_compared_ends_with_the_closest_control():
    assert compared(["rm3", "ra3-scaled", "sgd", "ra3"]) == [
        ("sgd", "rm3"),
        ("ra3", "rm3"),
        ("ra3-scaled", "rm3"),
    ]
    assert compared(["adamw", "ra3-scaled", "rm3+adamw"]) == [("adamw", "rm3+adamw")]


def test_memorization_by_hand():
    verdict = memorization(three_optimizers())
    assert verdict.estimates["sgd - rm3 at the maximum"].mean == pytest.approx(0.61)
    assert verdict.pristine == pytest.approx(0.9)


def test_a_difference_is_over_the_seeds_that_both_have():
    curves = three_optimizers()
    # Seeds 1 and 2 of rm3 alone, the larger first: sgd's are 0.91 and 0.92 where rm3 has 0.3.
    rm3 = curves[(curves["optimizer"] == "rm3") & (curves["seed"] > 0)].sort_values("seed", ascending=False)
    estimates = memorization(pd.concat([rm3, curves[curves["optimizer"] != "rm3"]])).estimates
    assert estimates["sgd - rm3 at the maximum"].mean == pytest.approx(0.615)
    counts = {name: estimates[f"{name} at the maximum"].num_seeds for name in ("sgd", "rm3", "sgd - rm3")}
    assert counts == {"sgd": 3, "rm3": 2, "sgd - rm3": 2}


def test_at_noise_one_it_is_training_accuracy():
    curves = noisy({("sgd", 0): ([0.1, 0.2], [0.1, 0.6])}, noise=1.0)
    verdict = memorization(curves)
    assert verdict.estimates["sgd train"].mean == pytest.approx(0.4)
    (sentence,) = memorization_words(verdict).sentences
    assert sentence.startswith("Noise 1: ")
    assert "sgd 0.400 (one seed: no interval)" in sentence


def test_nothing_learned_gives_no_reading_and_says_so():
    curves = noisy({("sgd", 0): ([0.1, 0.1], [0.1, 0.1])})
    assert equal_pristine(curves) is None
    assert "no comparison at equal pristine accuracy" in memorization_words(memorization(curves)).sentences[1]

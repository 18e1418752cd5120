import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardness.findings.generalization import Generalization, own_and_controls, transfer_matrix
from hardness.subsets import SUBSETS
from tests.curves import retraining, with_controls


def test_the_hardness_verdicts_by_hand():
    found = Generalization.of(retraining(easy=0.95, hard=0.4))
    assert found.within_subset.mean == pytest.approx(0.55)
    assert found.within_subset.sign == 1
    assert found.within_subset.num_seeds == 3
    assert found.own_subset["easy"].mean == pytest.approx(0.05)
    assert found.own_subset["hard"].mean == pytest.approx(0.1)
    assert found.train["easy"].mean == pytest.approx(0.501)
    assert list(found.estimates()) == [
        *("easy->easy", "hard->hard", "random->random", "easy-control->easy", "hard-control->hard"),
        *("easy train", "hard train", "easy-control train", "hard-control train"),
        *("within-subset", "own-subset advantage of easy", "own-subset advantage of hard"),
    ]


def test_the_unit_is_the_tracking_seed():
    matrix = transfer_matrix(retraining(easy=0.95, hard=0.4, seeds=2))
    assert matrix.loc[("1", "easy"), "easy"] == pytest.approx(0.951)
    assert Generalization.of(retraining(easy=0.95, hard=0.4, seeds=1)).within_subset.low is None


def test_the_place_among_controls_by_hand():
    # Mean 0.7, deviations -0.1, -0.1, 0, 0.2: standard deviation sqrt(0.06 / 3).
    curves = with_controls(0.8, [0.6, 0.6, 0.7, 0.9])
    found = Generalization.of(curves)
    assert found.test["easy-control", "easy"].mean == pytest.approx(0.7)
    assert found.own_subset["easy"].mean == pytest.approx(0.1)
    assert list(found.among_controls) == [("0", "easy")]
    among = found.among_controls["0", "easy"]
    assert among.num_controls == 4
    assert among.deviation == pytest.approx(0.02**0.5)
    assert among.distance == pytest.approx(0.1 / 0.02**0.5)
    # One of four is as accurate: (1 + 1) / (4 + 1).
    assert among.p_value == pytest.approx(0.4)
    assert among.least_p_value == pytest.approx(0.2)
    assert list(found.estimates())[-5:] == [
        f"easy among its controls, tracking seed 0: {name}"
        for name in (
            *("controls", "standard deviation", "distance in standard deviations", "p-value"),
            "least p-value that there can be",
        )
    ]
    matrix = transfer_matrix(curves)
    assert matrix.index.get_level_values("trained_on").tolist() == sorted(SUBSETS)
    found = own_and_controls(curves).query("subset == 'easy'")
    assert found["is_control"].tolist() == [False, True, True, True, True]
    assert found["top1"].tolist() == pytest.approx([0.8, 0.6, 0.6, 0.7, 0.9])


def test_controls_that_are_all_equal_have_no_standard_deviations_to_count():
    found = Generalization.of(with_controls(0.9, [0.9, 0.9]))
    assert found.among_controls["0", "easy"].p_value == 1
    assert not any("distance" in key for key in found.estimates())
    assert "standard deviations" not in found.words().sentences[2]


@settings(max_examples=6)
@given(st.integers(2, 6), st.integers(0, 1000))
def test_under_the_null_p_is_at_most_alpha_as_often_as_it_says(num_controls, seed):
    """Any of subset and controls may be the subset: of the p-values at most a share alpha is up to alpha."""
    accuracies = np.random.default_rng(seed).integers(0, 8, num_controls + 1) / 8
    p_values = []
    for own in range(num_controls + 1):
        controls = np.delete(accuracies, own)
        curves = with_controls(accuracies[own], controls)
        p_values.append(Generalization.of(curves).among_controls["0", "easy"].p_value)
    for alpha in np.unique(p_values):
        assert np.mean(np.array(p_values) <= alpha + 1e-9) <= alpha + 1e-9


@pytest.mark.parametrize(
    ("easy", "hard", "seeds", "answer"),
    [
        (0.95, 0.4, 3, "Yes"),
        (0.4, 0.95, 3, "No, the opposite"),
        (0.95, 0.4, 1, "One seed suggests yes"),
        (0.4, 0.95, 1, "One seed suggests no"),
    ],
)
def test_the_answer_follows_the_numbers_whatever_their_sign(easy, hard, seeds, answer):
    words = Generalization.of(retraining(easy, hard, seeds=seeds)).words()
    assert words.headline.startswith(f"{answer}: ")
    shift = 0.001 if seeds == 3 else 0
    assert f"{easy + shift:.3f}; on hard examples, {hard + shift:.3f}" in words.headline
    assert ("opposite to the hypothesis" in words.sentences[0]) == (easy < hard)
    assert ("one seed: no interval" in words.sentences[0]) == (seeds == 1)
    assert any("One seed" in caution for caution in words.cautions) == (seeds == 1)


def test_an_interval_that_includes_0_is_no_answer():
    curves = pd.concat(
        [retraining(0.6, 0.5, seeds=1), retraining(0.5, 0.7, seeds=1).assign(tracking_seed="1")]
    )
    words = Generalization.of(curves).words()
    assert words.headline.startswith("No significant difference: ")
    assert "the interval includes 0" in words.sentences[0]


def test_own_subset_words():
    better, worse = Generalization.of(retraining(0.95, 0.2)).words().sentences[1:3]
    assert "training on easy examples is better than" in better
    assert "training on hard examples is worse than" in worse
    one_seed = Generalization.of(retraining(0.95, 0.4, seeds=1)).words().sentences[1]
    assert "in this one seed" in one_seed


def test_hard_examples_that_were_not_fitted_are_a_caution():
    (caution,) = Generalization.of(retraining(0.95, 0.4)).words().cautions
    assert "fitted only 0.501" in caution


def test_several_controls_give_a_p_value():
    sentences = Generalization.of(with_controls(0.8, [0.6, 0.6, 0.7, 0.9])).words().sentences
    assert "4 random sets" in sentences[1]
    for words in ("4 controls", "p-value 0.400 (one tracking seed)", "possible p-value is 0.200", "+0.7"):
        assert words in sentences[2]
    assert "a random set" in sentences[3]


def test_over_tracking_seeds_it_is_the_largest_p_value():
    curves = [with_controls(easy, [0.5, 0.6]).assign(tracking_seed=str(easy)) for easy in (0.55, 0.7)]
    sentence = Generalization.of(pd.concat(curves)).words().sentences[2]
    for words in ("p-value 0.667 over 2 tracking seeds", "possible p-value is 0.333", "+0.0 to +2.1"):
        assert words in sentence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardness.subsets import SUBSETS
from hardness.verdicts import (
    at_first_crossing,
    equal_pristine,
    hardness_sentences,
    hardness_verdicts,
    memorization,
    own_and_controls,
    transfer_matrix,
)


def retraining(easy, hard, easy_control=0.9, hard_control=0.3, seeds=3) -> pd.DataFrame:
    """Curves of two epochs whose first is a decoy, two retrainings a tracking seed that differ by 0.02."""
    cells = {("easy", "easy"): easy, ("hard", "hard"): hard}
    cells |= {("easy-control", "easy"): easy_control, ("hard-control", "hard"): hard_control}
    rows = []
    for tracking_seed in range(seeds):
        for seed, shift in enumerate((-0.01, 0.01)):
            for trained_on in SUBSETS:
                for measured_on in (*SUBSETS, "train"):
                    top1 = cells.get((trained_on, measured_on), 0.5) + 0.001 * tracking_seed + shift
                    for epoch, value in ((1, 0.99), (2, top1)):
                        rows.append((str(tracking_seed), trained_on, seed, epoch, measured_on, value))
    columns = ["tracking_seed", "trained_on", "seed", "epoch", "measured_on", "top1"]
    return pd.DataFrame(rows, columns=columns)


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


@pytest.mark.parametrize(
    ("easy", "hard", "seeds", "told"),
    [
        (0.95, 0.4, 3, "Within-subset: test accuracy is 0.951 among easy"),
        (0.4, 0.95, 3, "Within-subset: opposite to the hypothesis"),
        (0.4, 0.95, 1, "Within-subset: opposite to the hypothesis"),
        (0.95, 0.4, 1, "one seed: no interval"),
    ],
)
def test_words_follow_the_numbers_whatever_their_sign(easy, hard, seeds, told):
    assert told in hardness_sentences(hardness_verdicts(retraining(easy, hard, seeds=seeds)))[0]


def test_own_subset_words():
    helped, hurt = hardness_sentences(hardness_verdicts(retraining(0.95, 0.2)))[1:]
    assert "helps on easy ones" in helped
    assert "hurts on hard ones" in hurt


def with_controls(easy, controls) -> pd.DataFrame:
    """``retraining`` whose easy control is ``controls[0]`` on easy, with others beside it; hard has one."""
    curves = retraining(easy, 0.4, easy_control=controls[0], seeds=1)
    first = curves[curves["trained_on"] == "easy-control"]
    others = [
        first.assign(
            trained_on=f"easy-control-{number}",
            top1=first["top1"] + (control - controls[0]) * (first["measured_on"] == "easy"),
        )
        for number, control in enumerate(controls[1:], start=2)
    ]
    return pd.concat([curves, *others], ignore_index=True)


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
    told = hardness_sentences(verdicts)
    assert len(told) == 4
    assert "compared with 4 random sets" in told[1]
    assert "the one-sided p-value is 0.400 (one tracking seed)" in told[2]
    assert "it lies +0.7 of their standard deviations" in told[2]
    assert "compared with a random set" in told[3]
    matrix = transfer_matrix(curves)
    assert matrix.index.get_level_values("trained_on").tolist() == sorted(SUBSETS)
    found = own_and_controls(curves).query("subset == 'easy'")
    assert found["is_control"].tolist() == [False, True, True, True, True]
    assert found["top1"].tolist() == pytest.approx([0.8, 0.6, 0.6, 0.7, 0.9])


def test_controls_that_are_all_equal_have_no_standard_deviations_to_count():
    verdicts = hardness_verdicts(with_controls(0.9, [0.9, 0.9]))
    assert verdicts["easy among its controls, tracking seed 0: p-value"].mean == 1
    assert not any("distance" in key for key in verdicts)
    assert "standard deviations" not in hardness_sentences(verdicts)[2]


def test_over_tracking_seeds_the_largest_p_is_told():
    curves = [with_controls(easy, [0.5, 0.6]).assign(tracking_seed=str(easy)) for easy in (0.55, 0.7)]
    told = hardness_sentences(hardness_verdicts(pd.concat(curves)))[2]
    assert "p-value is 0.667 at the most over 2 tracking seeds" in told
    assert "with 2 controls it cannot be below 0.333" in told
    assert "+0.0 to +2.1 of their standard deviations" in told


@settings(max_examples=15)
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


def noisy(members, noise=0.5) -> pd.DataFrame:
    """(optimizer, seed) -> (pristine by epoch, corrupt by epoch)."""
    rows = []
    for (optimizer, seed), (pristine, corrupt) in members.items():
        for epoch, (p, c) in enumerate(zip(pristine, corrupt, strict=True)):
            for measured_on, top1 in (
                ("pristine", p),
                ("corrupt", c),
                ("corrupt-clean", 1 - c),
                ("train", (p + c) / 2),
            ):
                rows.append((optimizer, noise, seed, epoch, measured_on, top1))
    return pd.DataFrame(rows, columns=["optimizer", "noise", "seed", "epoch", "measured_on", "top1"])


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
    assert across.at_maximum("sgd") == pytest.approx([0.5])
    assert across.at_maximum("m3") == pytest.approx([0.3])
    assert across.clean_at_maximum("m3") == pytest.approx([0.7])
    assert across.mean_over_grid("sgd")[0] > across.mean_over_grid("m3")[0]


def test_memorization_in_words_and_numbers():
    members = {}
    for seed in range(3):
        members["sgd", seed] = ([0.1, 0.5, 0.9], [0.1, 0.1, 0.9 + 0.01 * seed])
        members["rm3", seed] = ([0.1, 0.5, 0.9], [0.1, 0.1, 0.3])
        members["ra3", seed] = ([0.1, 0.5, 0.9], [0.1, 0.1, 0.2 + 0.01 * seed])
    verdict = memorization(noisy(members))
    assert verdict.estimates["sgd - rm3 at the maximum"].mean == pytest.approx(0.61)
    told = " ".join(verdict.sentences)
    assert "rm3 against sgd (at the maximum): rm3 memorizes less; sgd - rm3 = 0.610" in told
    assert "rm3 against ra3 (at the maximum): rm3 memorizes more, opposite to the hypothesis" in told


def test_at_noise_one_it_is_training_accuracy():
    curves = noisy({("sgd", 0): ([0.1, 0.2], [0.1, 0.6])}, noise=1.0)
    verdict = memorization(curves)
    assert verdict.sentences == [
        "Noise 1: training accuracy at the last epoch: sgd 0.400 (one seed: no interval)."
    ]


def test_nothing_learned_gives_no_reading_and_says_so():
    curves = noisy({("sgd", 0): ([0.1, 0.1], [0.1, 0.1])})
    assert equal_pristine(curves) is None
    assert "no comparison at equal pristine accuracy" in memorization(curves).sentences[1]


def test_one_seed_cannot_tell():
    members = {(name, 0): ([0.1, 0.5, 0.9], [0.1, 0.1, 0.3]) for name in ("sgd", "m3")}
    assert "one seed cannot tell" in memorization(noisy(members)).sentences[1]
    assert "one seed cannot tell" in hardness_sentences(hardness_verdicts(retraining(0.95, 0.4, seeds=1)))[1]

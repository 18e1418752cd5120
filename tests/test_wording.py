"""What is said follows the numbers, whatever their sign, and every number of it is known."""

import pandas as pd
import pytest

from hardness.statistics import Estimate
from hardness.verdicts import hardness_verdicts, memorization
from hardness.wording import (
    Words,
    first_learned_words,
    hardness_words,
    label_error_words,
    memorization_words,
)
from tests.curves import noisy, retraining, three_optimizers, with_controls
from tests.words import is_told, leaves, numbers_in


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
    assert told in hardness_words(hardness_verdicts(retraining(easy, hard, seeds=seeds))).sentences[0]


def test_own_subset_words():
    helped, hurt = hardness_words(hardness_verdicts(retraining(0.95, 0.2))).sentences[1:3]
    assert "helps on easy ones" in helped
    assert "hurts on hard ones" in hurt


def test_over_tracking_seeds_the_largest_p_is_told():
    curves = [with_controls(easy, [0.5, 0.6]).assign(tracking_seed=str(easy)) for easy in (0.55, 0.7)]
    told = hardness_words(hardness_verdicts(pd.concat(curves))).sentences[2]
    assert "p-value is 0.667 at the most over 2 tracking seeds" in told
    assert "with 2 controls it cannot be below 0.333" in told
    assert "+0.0 to +2.1 of their standard deviations" in told


def test_one_seed_cannot_tell():
    members = {(name, 0): ([0.1, 0.5, 0.9], [0.1, 0.1, 0.3]) for name in ("sgd", "m3")}
    assert "one seed cannot tell" in memorization_words(memorization(noisy(members))).sentences[1]
    assert (
        "one seed cannot tell"
        in hardness_words(hardness_verdicts(retraining(0.95, 0.4, seeds=1))).sentences[1]
    )


@pytest.mark.parametrize(
    ("easy", "hard", "seeds", "told"),
    [
        (0.95, 0.4, 3, "Yes: test accuracy is 0.951 among easy examples and 0.401 among hard ones"),
        (0.4, 0.95, 3, "No, the opposite: test accuracy is 0.401"),
        (0.95, 0.4, 1, "So it seems, from one seed: "),
        (0.4, 0.95, 1, "It does not seem so, from one seed: "),
    ],
)
def test_the_answer_comes_first(easy, hard, seeds, told):
    assert hardness_words(hardness_verdicts(retraining(easy, hard, seeds=seeds))).headline.startswith(told)


def test_an_interval_that_holds_zero_is_no_answer():
    curves = pd.concat(
        [retraining(0.6, 0.5, seeds=1), retraining(0.5, 0.7, seeds=1).assign(tracking_seed="1")]
    )
    words = hardness_words(hardness_verdicts(curves))
    assert words.headline.startswith("Not clearly: ")
    assert "and the interval holds zero" in words.sentences[0]


def test_hard_examples_that_were_not_fitted_are_told():
    words = hardness_words(hardness_verdicts(retraining(0.95, 0.4)))
    assert words.cautions == [words.cautions[0]]
    assert words.cautions[0].startswith("The networks fitted only 0.501 of the hard examples")


def test_several_controls_are_told():
    told = hardness_words(hardness_verdicts(with_controls(0.8, [0.6, 0.6, 0.7, 0.9]))).sentences
    assert "compared with 4 random sets" in told[1]
    assert "the one-sided p-value is 0.400 (one tracking seed)" in told[2]
    assert "with 4 controls it cannot be below 0.200" in told[2]
    assert "it lies +0.7 of their standard deviations" in told[2]
    assert "compared with a random set" in told[3]


def test_a_median_is_judged_against_its_own_control():
    words = memorization_words(memorization(three_optimizers()))
    told = " ".join(words.sentences)
    assert "rm3 against sgd (at the maximum): rm3 memorizes less; sgd - rm3 = 0.610" in told
    assert "rm3 against ra3 (at the maximum): rm3 memorizes more, opposite to the hypothesis" in told
    assert words.headline.startswith("No, it memorizes more: at noise 0.5")
    assert "ra3 - rm3 -" in words.headline
    assert "sgd - rm3" not in words.headline


def test_examples_that_tie_in_epoch_one_are_told():
    estimates = {"learned in epoch 1": Estimate.of([0.8]), "never learned": Estimate.of([0.1])}
    words = first_learned_words(estimates, "eval")
    assert words.headline == "0.800 of the examples are learned in epoch 1, 0.100 never."
    assert [caution.split(",")[0] for caution in words.cautions] == ["Most examples tie in epoch 1"]
    spread = estimates | {"learned in epoch 1": Estimate.of([0.2])}
    assert first_learned_words(spread, "eval").cautions == []
    assert "met a better network" in first_learned_words(spread, "train").cautions[0]


def every_words() -> list[tuple[Words, dict[str, Estimate]]]:
    found = []
    for verdicts in (
        hardness_verdicts(retraining(0.95, 0.4)),
        hardness_verdicts(with_controls(0.8, [0.6, 0.6, 0.7, 0.9])),
    ):
        found.append((hardness_words(verdicts), verdicts))
    for curves in (three_optimizers(), noisy({("sgd", 0): ([0.1, 0.2], [0.1, 0.6])}, noise=1.0)):
        verdict = memorization(curves)
        found.append((memorization_words(verdict), verdict.estimates))
    estimates = {f"aum: {name}": Estimate.of([0.71, 0.73]) for name in ("average precision", "auroc")}
    estimates["aum - el2n: average precision"] = Estimate.of([0.02, 0.03])
    found.append((label_error_words(estimates, "aum", "el2n", 12, 0.275), estimates))
    return found


@pytest.mark.parametrize("number", range(len(every_words())))
def test_every_number_in_the_words_is_an_estimate_or_told_beside_them(number):
    words, estimates = every_words()[number]
    known = leaves([vars(estimate) for estimate in estimates.values()] + [words.numbers])
    told = numbers_in(" ".join([words.headline, *words.sentences, *words.cautions]))
    assert told
    assert [each for each in told if not is_told(each, known)] == []
    assert not is_told("0.1234", known)

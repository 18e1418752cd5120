"""Sentences follow the numbers, whatever their sign, and contain no other numbers."""

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
    ("easy", "hard", "seeds", "answer"),
    [
        (0.95, 0.4, 3, "Yes"),
        (0.4, 0.95, 3, "No, the opposite"),
        (0.95, 0.4, 1, "One seed suggests yes"),
        (0.4, 0.95, 1, "One seed suggests no"),
    ],
)
def test_the_answer_follows_the_numbers_whatever_their_sign(easy, hard, seeds, answer):
    words = hardness_words(hardness_verdicts(retraining(easy, hard, seeds=seeds)))
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
    words = hardness_words(hardness_verdicts(curves))
    assert words.headline.startswith("No significant difference: ")
    assert "the interval includes 0" in words.sentences[0]


def test_own_subset_words():
    better, worse = hardness_words(hardness_verdicts(retraining(0.95, 0.2))).sentences[1:3]
    assert "training on easy examples is better than" in better
    assert "training on hard examples is worse than" in worse
    one_seed = hardness_words(hardness_verdicts(retraining(0.95, 0.4, seeds=1))).sentences[1]
    assert "in this one seed" in one_seed


def test_hard_examples_that_were_not_fitted_are_a_caution():
    (caution,) = hardness_words(hardness_verdicts(retraining(0.95, 0.4))).cautions
    assert "fitted only 0.501" in caution


def test_several_controls_give_a_p_value():
    sentences = hardness_words(hardness_verdicts(with_controls(0.8, [0.6, 0.6, 0.7, 0.9]))).sentences
    assert "4 random sets" in sentences[1]
    for words in ("4 controls", "p-value 0.400 (one tracking seed)", "possible p-value is 0.200", "+0.7"):
        assert words in sentences[2]
    assert "a random set" in sentences[3]


def test_over_tracking_seeds_it_is_the_largest_p_value():
    curves = [with_controls(easy, [0.5, 0.6]).assign(tracking_seed=str(easy)) for easy in (0.55, 0.7)]
    sentence = hardness_words(hardness_verdicts(pd.concat(curves))).sentences[2]
    for words in ("p-value 0.667 over 2 tracking seeds", "possible p-value is 0.333", "+0.0 to +2.1"):
        assert words in sentence


def test_a_median_is_judged_by_its_own_control():
    words = memorization_words(memorization(three_optimizers()))
    sgd, _, ra3, _ = words.sentences[1:]
    assert sgd.endswith("it memorizes less; sgd - rm3 = 0.610 [0.585, 0.635] (3 seeds).")
    assert "opposite to the hypothesis; ra3 - rm3 = -" in ra3
    assert words.headline.startswith("No, the median memorizes more: ")
    assert "ra3 - rm3 = -" in words.headline
    assert "sgd - rm3" not in words.headline


def test_one_seed_is_no_verdict_on_memorization():
    members = {(name, 0): ([0.1, 0.5, 0.9], [0.1, 0.1, 0.3]) for name in ("sgd", "m3")}
    words = memorization_words(memorization(noisy(members)))
    assert words.headline.startswith("One seed gives no interval: ")
    assert "one seed gives no interval" in words.sentences[1]


def test_cautions_about_first_learned_epochs():
    estimates = {"learned in epoch 1": Estimate.of([0.8]), "never learned": Estimate.of([0.1])}
    words = first_learned_words(estimates, "eval")
    assert "0.800" in words.headline
    assert "0.100" in words.headline
    assert [caution.split(" at ")[0] for caution in words.cautions] == ["Most examples tie"]
    spread = estimates | {"learned in epoch 1": Estimate.of([0.2])}
    assert first_learned_words(spread, "eval").cautions == []
    assert len(first_learned_words(spread, "train").cautions) == 1


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
def test_every_number_in_the_words_is_an_estimate_or_in_their_numbers(number):
    words, estimates = every_words()[number]
    known = leaves([vars(estimate) for estimate in estimates.values()] + [words.numbers])
    shown = numbers_in(" ".join([words.headline, *words.sentences, *words.cautions]))
    assert shown
    assert [each for each in shown if not is_told(each, known)] == []
    assert not is_told("0.1234", known)

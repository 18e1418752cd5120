"""Verdicts in words, whatever their sign.

Every number in them is in the estimates that they describe, or in their own ``numbers``.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from hardness.agreement import kinds_of_difference
from hardness.statistics import Estimate
from hardness.verdicts import AMONG, LEAST_P, Memorization, compared

_FITTED = 0.9
_TIED = 0.5
_ONE_SEED = "One seed gives no interval: track and retrain, or memorize, with at least three seeds."
_READINGS = {
    "at the maximum": "at the highest of these levels",
    "mean over the grid": "mean over all levels of pristine accuracy",
}
"""Name of an estimate -> the same in a sentence."""


@dataclass(frozen=True)
class Words:
    """What the numbers say: in one sentence, and in full."""

    headline: str
    sentences: list[str]
    numbers: dict[str, float] = field(default_factory=dict)
    """Numbers in the words that are not estimates."""
    cautions: list[str] = field(default_factory=list)


def hardness_words(verdicts: dict[str, Estimate]) -> Words:
    """The two hardness verdicts; with several controls, also the position of the subset among them."""
    within = verdicts["within-subset"]
    mean = {name: f"{estimate.mean:.3f}" for name, estimate in verdicts.items()}
    accuracies = (
        f"trained and tested on easy examples, networks reach a test accuracy of {mean['easy->easy']}; "
        f"on hard examples, {mean['hard->hard']}"
    )
    opposite = within.sign < 0 or (within.low is None and within.mean < 0)
    sentences = [
        f"Within-subset generalization{' (opposite to the hypothesis)' if opposite else ''}: {accuracies} "
        f"(train accuracy {mean['easy train']} and {mean['hard train']}). "
        f"Difference, easy minus hard: {within}{_includes_0(within)}."
    ]
    for name in ("easy", "hard"):
        advantage = verdicts[f"own-subset advantage of {name}"]
        num_controls = _per_seed(verdicts, name, "controls")
        others = f"{min(num_controls):.0f} random sets" if num_controls else "a random set"
        sentences.append(
            f"Own-subset advantage of {name}: tested on {name} examples, training on {name} examples is "
            f"{_better(advantage)} training on {others} of the same classes (test accuracy "
            f"{mean[f'{name}->{name}']} and {mean[f'{name}-control->{name}']}, train accuracy "
            f"{mean[f'{name} train']} and {mean[f'{name}-control train']}). "
            f"Difference: {advantage}{_includes_0(advantage)}."
        )
        if num_controls:
            sentences.append(_among_controls(verdicts, name, min(num_controls)))
    cautions = [_ONE_SEED] if within.low is None else []
    if verdicts["hard train"].mean < _FITTED:
        cautions.append(
            f"The networks fitted only {mean['hard train']} of the hard examples that they trained on: "
            "longer training may change the result."
        )
    if within.low is None:
        answer = f"One seed suggests {'yes' if within.mean > 0 else 'no'}"
    else:
        answer = {1: "Yes", 0: "No significant difference", -1: "No, the opposite"}[within.sign]
    own = verdicts["own-subset advantage of easy"]
    headline = (
        f"{answer}: {accuracies}; difference {within}. Tested on easy examples, training on easy examples is "
        f"{_better(own)} training on a random set of the same classes; difference {own}."
    )
    return Words(headline, sentences, cautions=cautions)


def memorization_words(found: Memorization) -> Words:
    """The memorization verdict of one noise level."""
    noise, estimates = f"{found.noise:g}", found.estimates
    if found.pristine is None:
        texts = "; ".join(f"{name.split()[0]} {estimate}" for name, estimate in estimates.items())
        sentences = [f"Noise {noise}: train accuracy at the last epoch: {texts}."]
        if 0 < found.noise < 1:
            sentences.append(
                f"Noise {noise}: no comparison at equal pristine accuracy, because it did not increase in "
                "every run. Train longer."
            )
        return Words("", sentences, {f"noise {noise}": found.noise})
    texts = "; ".join(
        f"{optimizer} {estimates[f'{optimizer} at the maximum']} against the given (wrong) labels, "
        f"{estimates[f'{optimizer} clean labels at the maximum'].mean:.3f} against the clean labels"
        for optimizer in found.optimizers
    )
    sentences = [
        f"Noise {noise}: when accuracy on pristine examples first reaches {found.pristine:.3f}, the highest "
        f"level that every run reached, accuracy on corrupt examples is: {texts}."
    ]
    own_control = {}
    for first, second in compared(found.optimizers):
        for how, words in _READINGS.items():
            estimate = estimates[f"{first} - {second} {how}"]
            sentences.append(
                f"Noise {noise}, {second} compared with {first} ({words}): {_memorizes(estimate)}; "
                f"{first} - {second} = {estimate}."
            )
        own_control[second] = f"{first} - {second}"
    headline = ""
    if own_control:
        judged = {pair: estimates[f"{pair} mean over the grid"] for pair in own_control.values()}
        texts = "; ".join(f"{pair} = {estimate}" for pair, estimate in judged.items())
        headline = (
            f"{_reduced(list(judged.values()))}: at noise {noise} and equal accuracy on pristine examples, "
            f"accuracy on corrupt examples differs by {texts} (positive: the median memorizes less)."
        )
    numbers = {f"noise {noise}": found.noise, f"noise {noise}: pristine accuracy": found.pristine}
    cautions = [_ONE_SEED] if any(each.low is None for each in estimates.values()) else []
    return Words(headline, sentences, numbers, cautions)


def _reduced(differences: list[Estimate]) -> str:
    if any(each.low is None for each in differences):
        return "One seed gives no interval"
    signs = {each.sign for each in differences}
    if signs == {0}:
        return "No significant difference"
    if signs == {1}:
        return "Yes"
    return "No, the median memorizes more" if signs == {-1} else "The results differ by optimizer"


def first_learned_words(estimates: dict[str, Estimate], record_mode: str) -> Words:
    """How many examples are learned in epoch 1, and how many never."""
    first, never = estimates["learned in epoch 1"], estimates["never learned"]
    cautions = []
    if first.mean > _TIED:
        cautions.append(
            "Most examples tie at first-learned epoch 1, so their mean loss decides which of them are the "
            "easiest. A smaller learning rate spreads them over more epochs."
        )
    if record_mode == "train":
        cautions.append(
            "Records are from the training pass: the last examples of an epoch are evaluated with a better "
            "model than the first ones."
        )
    headline = f"Fraction of examples first learned in epoch 1: {first}; never learned: {never}."
    return Words(headline, [], {"epoch": 1}, cautions)


def agreement_words(summary: pd.DataFrame) -> Words:
    """The table of ``hardness.agreement.over_pairs``."""
    sentences, numbers, headline = [], {}, ""
    matrix = summary[summary["kind"] == "scores"]
    plain = matrix[matrix["scope"] == "plain"]
    names = dict.fromkeys([*plain["score_a"], *plain["score_b"]])
    of_name = {name: plain[(plain["score_a"] == name) | (plain["score_b"] == name)] for name in names}
    if constant := [name for name, pairs in of_name.items() if pairs["num_constant"].all()]:
        sentences.append(f"No correlation, because constant in at least one run: {', '.join(constant)}.")
    for differs in [None, *kinds_of_difference(summary)]:
        rows = matrix if differs is None else summary[summary["differs"] == differs]
        both = rows.pivot(index=["score_a", "score_b"], columns="scope", values="spearman")
        both = both.dropna(subset="plain")
        if both.empty:
            continue
        of = f"two runs that differ in {differs}" if differs else "two scores of one run"
        ends = {}
        for what, index in (("least", both["plain"].idxmin()), ("most", both["plain"].idxmax())):
            values = both.loc[index]
            name = " and ".join(dict.fromkeys(index))
            ends[what] = f"{name} ({values['plain']:.2f}, within classes {_or_constant(values)})"
            numbers |= _correlations(f"{of}: {what}", values)
        median = both.median()
        numbers |= _correlations(f"{of}: median", median)
        correlation = (
            f"median Spearman correlation {median['plain']:.2f} (within classes {_or_constant(median)})"
        )
        if differs is None:
            sentences.append(
                f"Two scores of one run: {correlation}. Lowest: {ends['least']}; highest: {ends['most']}."
            )
        else:
            num_pairs = rows["num_pairs"].iloc[0]
            numbers[f"{of}: pairs"] = int(num_pairs)
            pairs = "1 pair" if num_pairs == 1 else f"{num_pairs} pairs"
            sentences.append(
                f"The same score in {of} ({pairs}): {correlation}. Most stable: {ends['most']}; least "
                f"stable: {ends['least']}."
            )
        # Of the runs that differ in fewest settings; a run and its copy agree anyway.
        if differs is None or (headline.startswith("Two scores") and differs != "nothing"):
            headline = f"{of.capitalize()}: {correlation}, over all scores."
    return Words(headline, sentences, numbers)


def _correlations(what: str, values: pd.Series) -> dict[str, float]:
    return {f"{what}, {scope}": float(value) for scope, value in values.items() if not np.isnan(value)}


def coherence_words(estimates: dict[str, Estimate]) -> Words:
    """What differences in coherence say about the coherent-gradients hypothesis."""
    sentences, headline = [], ""
    for name, estimate in estimates.items():
        pair, _, how = name.partition(": ")
        one, other = pair.split(" - ")
        if how == "at equal loss":
            verdict = {
                None: "one seed gives no interval",
                1: f"the gradients of {one} examples agree more than those of {other} ones",
                0: "no significant difference",
                -1: f"the gradients of {one} examples agree less than those of {other} ones",
            }[estimate.sign if estimate.num_seeds > 1 else None]
            sentences.append(f"Gradient coherence at equal mean loss, {pair} = {estimate}: {verdict}.")
            # A class-matched control is the fairest comparison.
            if not headline or pair == "easy - easy-control":
                headline = sentences[-1]
        elif how == "over training":
            sentences.append(f"Gradient coherence, mean over training, {pair} = {estimate}.")
    return Words(headline, sentences)


def label_error_words(
    estimates: dict[str, Estimate], best: str, second: str, num_scores: int, chance: float
) -> Words:
    """Which score detects wrong labels best, compared with chance and with the second-best score."""
    ahead = estimates[f"{best} - {second}: average precision"]
    found = f"average precision {estimates[f'{best}: average precision']}, by chance {chance:.3f}"
    tie = "" if ahead.sign > 0 else " (difference not significant)"
    sentence = (
        f"Of {num_scores} scores, {best} detects corrupt labels best: {found}; AUROC "
        f"{estimates[f'{best}: auroc']}. The average precision of the second best, {second}, is lower by "
        f"{ahead}{_includes_0(ahead)}. The best of many scores is partly the best by luck."
    )
    headline = f"{best} detects corrupt labels best: {found}. Second best: {second}{tie}."
    return Words(headline, [sentence], {"scores": num_scores, "chance": chance})


def _better(advantage: Estimate) -> str:
    if advantage.low is None:
        return f"{'better' if advantage.mean > 0 else 'not better'}, in this one seed, than"
    return {1: "better than", -1: "worse than", 0: "not significantly different from"}[advantage.sign]


def _among_controls(verdicts: dict[str, Estimate], name: str, num_controls: float) -> str:
    p_values = _per_seed(verdicts, name, "p-value")
    distances = _per_seed(verdicts, name, "distance in standard deviations")
    largest = f"one-sided p-value {p_values[0]:.3f} (one tracking seed)"
    if len(p_values) > 1:
        largest = f"largest one-sided p-value {max(p_values):.3f} over {len(p_values)} tracking seeds"
    sentence = (
        f"Own-subset advantage of {name} against the distribution of its {num_controls:.0f} controls: "
        f"{largest}; the smallest possible p-value is {max(_per_seed(verdicts, name, LEAST_P)):.3f}."
    )
    if distances:
        low, high = f"{min(distances):+.1f}", f"{max(distances):+.1f}"
        span = low if low == high else f"{low} to {high}"
        sentence += f" Distance from the mean of the controls, in their standard deviations: {span}."
    return sentence


def _per_seed(verdicts: dict[str, Estimate], name: str, what: str) -> list[float]:
    """The value of each tracking seed that has one; empty with one control per subset."""
    return [
        estimate.mean
        for key, estimate in verdicts.items()
        if key.startswith(AMONG.format(name)) and key.endswith(f": {what}")
    ]


def _or_constant(values: pd.Series) -> str:
    within = values["within-class"]
    return "constant" if np.isnan(within) else f"{within:.2f}"


def _includes_0(estimate: Estimate) -> str:
    return "; the interval includes 0" if estimate.low is not None and estimate.sign == 0 else ""


def _memorizes(difference: Estimate) -> str:
    if difference.low is None:
        return "one seed gives no interval"
    return {
        1: "it memorizes less",
        -1: "it memorizes more, opposite to the hypothesis",
        0: "no significant difference",
    }[difference.sign]

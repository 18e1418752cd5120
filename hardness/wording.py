"""Verdicts in words, whatever their sign.

Every number in them is in the estimates that they are of, or in their own ``numbers``.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from hardness.agreement import kinds_of_difference
from hardness.statistics import Estimate
from hardness.verdicts import AMONG, LEAST_P, Memorization, compared

_FITTED = 0.9
_TIED = 0.5
_ONE_SEED = "One seed tells nothing of chance: track and retrain, or memorize, with three or more."


@dataclass(frozen=True)
class Words:
    """What the numbers say: in one sentence, and in full."""

    headline: str
    sentences: list[str]
    numbers: dict[str, float] = field(default_factory=dict)
    """Those in the words that are no estimates."""
    cautions: list[str] = field(default_factory=list)
    """What to be wary of."""


def hardness_words(verdicts: dict[str, Estimate]) -> Words:
    """The two hardness verdicts; where controls are several, their word too."""
    within = verdicts["within-subset"]
    accuracies = (
        f"test accuracy is {verdicts['easy->easy'].mean:.3f} among easy examples and "
        f"{verdicts['hard->hard'].mean:.3f} among hard ones"
    )
    leads = (
        "opposite to the hypothesis, " if within.sign < 0 or (within.low is None and within.mean < 0) else ""
    )
    sentences = [
        f"Within-subset: {leads}{accuracies} (train accuracy {verdicts['easy train'].mean:.3f} and "
        f"{verdicts['hard train'].mean:.3f}); difference {within}{_clarity(within)}."
    ]
    for name in ("easy", "hard"):
        advantage = verdicts[f"own-subset advantage of {name}"]
        num_controls = _a_seed(verdicts, name, "controls")
        others = f"{min(num_controls):.0f} random sets" if num_controls else "a random set"
        sentences.append(
            f"Own-subset advantage of {name}: training among {name} examples {_helps(advantage)} on {name} "
            f"ones, compared with {others} of the same classes ({verdicts[f'{name}->{name}'].mean:.3f} "
            f"against {verdicts[f'{name}-control->{name}'].mean:.3f}; train accuracy "
            f"{verdicts[f'{name} train'].mean:.3f} and {verdicts[f'{name}-control train'].mean:.3f}); "
            f"difference {advantage}{_clarity(advantage)}."
        )
        if num_controls:
            sentences.append(_told_by_controls(verdicts, name, min(num_controls)))
    cautions = [_ONE_SEED] if within.low is None else []
    fitted = verdicts["hard train"].mean
    if fitted < _FITTED:
        cautions.append(
            f"The networks fitted only {fitted:.3f} of the hard examples that they trained on: longer "
            "training may change what they make of the others."
        )
    if within.low is None:
        answer = "So it seems, from one seed" if within.mean > 0 else "It does not seem so, from one seed"
    else:
        answer = {1: "Yes", 0: "Not clearly", -1: "No, the opposite"}[within.sign]
    own = verdicts["own-subset advantage of easy"]
    headline = (
        f"{answer}: {accuracies}; difference {within}. Against a random set of the same classes, training "
        f"among easy examples {_helps(own)} on easy ones: {own}."
    )
    return Words(headline, sentences, cautions=cautions)


def memorization_words(found: Memorization) -> Words:
    """The memorization verdict of one noise level."""
    noise, estimates = f"{found.noise:g}", found.estimates
    if found.pristine is None:
        told = "; ".join(f"{name.split()[0]} {estimate}" for name, estimate in estimates.items())
        sentences = [f"Noise {noise}: training accuracy at the last epoch: {told}."]
        if 0 < found.noise < 1:
            sentences.append(
                f"Noise {noise}: no comparison at equal pristine accuracy, since not every run rose "
                "above where it began: train longer."
            )
        return Words("", sentences, {f"noise {noise}": found.noise})
    told = "; ".join(
        f"{optimizer} {estimates[f'{optimizer} at the maximum']}, against their clean labels "
        f"{estimates[f'{optimizer} clean labels at the maximum'].mean:.3f}"
        for optimizer in found.optimizers
    )
    sentences = [
        f"Noise {noise}: when pristine accuracy first reaches {found.pristine:.3f}, the largest that "
        f"every run reached, accuracy on corrupt examples is: {told}."
    ]
    own_control = {}
    for first, second in compared(found.optimizers):
        for how in ("at the maximum", "mean over the grid"):
            estimate = estimates[f"{first} - {second} {how}"]
            sentences.append(
                f"Noise {noise}, {second} against {first} ({how}): {second} memorizes "
                f"{_less_or_more(estimate)}; {first} - {second} = {estimate}."
            )
        own_control[second] = f"{first} - {second}"
    headline = ""
    if own_control:
        judged = {pair: estimates[f"{pair} mean over the grid"] for pair in own_control.values()}
        told = "; ".join(f"{pair} {estimate}" for pair, estimate in judged.items())
        headline = (
            f"{_stopped(list(judged.values()))}: at noise {noise}, at equal accuracy on pristine examples, "
            f"the accuracy on corrupt ones differs by {told}."
        )
    numbers = {f"noise {noise}": found.noise, f"noise {noise}: pristine accuracy": found.pristine}
    cautions = [_ONE_SEED] if any(each.low is None for each in estimates.values()) else []
    return Words(headline, sentences, numbers, cautions)


def _stopped(differences: list[Estimate]) -> str:
    if any(each.low is None for each in differences):
        return "One seed cannot tell"
    signs = {each.sign for each in differences}
    if signs == {0}:
        return "No difference is to be seen"
    if signs == {1}:
        return "Yes"
    return "No, it memorizes more" if signs == {-1} else "It depends"


def first_learned_words(estimates: dict[str, Estimate], record_mode: str) -> Words:
    """How many examples are learned at once, and how many never."""
    first, never = estimates["learned in epoch 1"], estimates["never learned"]
    sentences = [f"Share of the examples first learned in epoch 1: {first}; never learned: {never}."]
    cautions = []
    if first.mean > _TIED:
        cautions.append(
            "Most examples tie in epoch 1, so that mean loss chooses the easiest among them: a smaller "
            "learning rate spreads them over the epochs."
        )
    if record_mode == "train":
        cautions.append(
            "Records are of the passes that training makes: an example that comes late in an epoch met a "
            "better network."
        )
    headline = f"{first.mean:.3f} of the examples are learned in epoch 1, {never.mean:.3f} never."
    return Words(headline, sentences, {"epoch": 1}, cautions)


def agreement_words(summary: pd.DataFrame) -> Words:
    """The table of ``hardness.agreement.over_pairs``."""
    sentences, numbers, headline = [], {}, ""
    matrix = summary[summary["kind"] == "scores"]
    plain = matrix[matrix["scope"] == "plain"]
    names = dict.fromkeys([*plain["score_a"], *plain["score_b"]])
    of_name = {name: plain[(plain["score_a"] == name) | (plain["score_b"] == name)] for name in names}
    if constant := [name for name, pairs in of_name.items() if pairs["num_constant"].all()]:
        sentences.append(f"Constant, so without a correlation, in at least one run: {', '.join(constant)}.")
    for differs in [None, *kinds_of_difference(summary)]:
        rows = matrix if differs is None else summary[summary["differs"] == differs]
        both = rows.pivot(index=["score_a", "score_b"], columns="scope", values="spearman")
        both = both.dropna(subset="plain")
        if both.empty:
            continue
        of = f"two runs that differ in {differs}" if differs else "two scores of one run"
        told = {}
        for what, index in (("least", both["plain"].idxmin()), ("most", both["plain"].idxmax())):
            values = both.loc[index]
            name = " and ".join(dict.fromkeys(index))
            told[what] = f"{name} ({values['plain']:.2f}, within classes {_or_constant(values)})"
            numbers |= _correlations(f"{of}: {what}", values)
        median = both.median()
        numbers |= _correlations(f"{of}: median", median)
        if differs is None:
            lead = "Two scores of one run have"
            ends = f"alike least: {told['least']}; most: {told['most']}"
        else:
            num_pairs = rows["num_pairs"].iloc[0]
            numbers[f"{of}: pairs"] = int(num_pairs)
            pairs = "1 pair" if num_pairs == 1 else f"{num_pairs} pairs"
            lead = f"A score has, in two runs that differ in {differs} ({pairs}),"
            ends = f"the most stable: {told['most']}; the least: {told['least']}"
        sentences.append(
            f"{lead} a Spearman correlation of {median['plain']:.2f} in the median, "
            f"{_or_constant(median)} within classes; {ends}."
        )
        # Of runs that differ in least; a run and its copy agree anyway.
        if differs is None or (headline.startswith("Two scores") and differs != "nothing"):
            headline = (
                f"{of.capitalize()}: a Spearman correlation of {median['plain']:.2f} in the median over the "
                f"scores, {_or_constant(median)} within classes."
            )
    return Words(headline, sentences, numbers)


def _correlations(what: str, values: pd.Series) -> dict[str, float]:
    return {f"{what}, {scope}": float(value) for scope, value in values.items() if not np.isnan(value)}


def coherence_words(estimates: dict[str, Estimate]) -> Words:
    """What differences of coherence say of the coherent-gradients hypothesis."""
    sentences, headline = [], ""
    for name, estimate in estimates.items():
        pair, _, how = name.partition(": ")
        one, other = pair.split(" - ")
        if how == "at equal loss":
            verdict = {
                None: "one seed cannot tell whether it is more than chance",
                1: f"the gradients of {one} examples agree more than those of {other} ones",
                0: "no difference is to be seen",
                -1: f"the gradients of {one} examples agree less than those of {other} ones",
            }[estimate.sign if estimate.num_seeds > 1 else None]
            told = f"Gradient coherence at equal mean loss, {pair}: {estimate}: {verdict}."
            sentences.append(told)
            # A class-matched control is the fairest comparison.
            if not headline or pair == "easy - easy-control":
                headline = told
        elif how == "over training":
            sentences.append(f"Gradient coherence over training, {pair}: {estimate}.")
    return Words(headline, sentences)


def label_error_words(
    estimates: dict[str, Estimate], best: str, second: str, num_scores: int, chance: float
) -> Words:
    """Which of the scores finds wrong labels best, against chance and the one that comes next."""
    ahead = estimates[f"{best} - {second}: average precision"]
    found = f"finds the corrupt labels best: average precision {estimates[f'{best}: average precision']}"
    clearly = "" if ahead.sign > 0 else ", which is not clearly worse"
    sentence = (
        f"Of {num_scores} scores {best} {found} (by chance alone {chance:.3f}), AUROC "
        f"{estimates[f'{best}: auroc']}. It is ahead of {second}{clearly}, by {ahead}; of many scores the "
        "best is so in part by luck."
    )
    headline = f"{best} {found}; by chance alone {chance:.3f}. Next comes {second}{clearly}."
    return Words(headline, [sentence], {"scores": num_scores, "chance": chance})


def _helps(advantage: Estimate) -> str:
    if advantage.low is None:
        return "may help or not, one seed cannot tell,"
    return {1: "helps", -1: "hurts", 0: "makes no clear difference"}[advantage.sign]


def _told_by_controls(verdicts: dict[str, Estimate], name: str, num_controls: float) -> str:
    p_values = _a_seed(verdicts, name, "p-value")
    distances = _a_seed(verdicts, name, "distance in standard deviations")
    largest = f"is {p_values[0]:.3f} (one tracking seed)"
    if len(p_values) > 1:
        largest = f"is {max(p_values):.3f} at the most over {len(p_values)} tracking seeds"
    sentence = (
        f"Own-subset advantage of {name}, its controls taken as what chance gives: the one-sided p-value "
        f"{largest}; with {num_controls:.0f} controls it cannot be below "
        f"{max(_a_seed(verdicts, name, LEAST_P)):.3f}."
    )
    if distances:
        low, high = f"{min(distances):+.1f}", f"{max(distances):+.1f}"
        span = low if low == high else f"{low} to {high}"
        sentence += f" From the controls' mean it lies {span} of their standard deviations."
    return sentence


def _a_seed(verdicts: dict[str, Estimate], name: str, what: str) -> list[float]:
    """A value a tracking seed that has one; none where there is one control each."""
    return [
        estimate.mean
        for key, estimate in verdicts.items()
        if key.startswith(AMONG.format(name)) and key.endswith(f": {what}")
    ]


def _or_constant(values: pd.Series) -> str:
    within = values["within-class"]
    return "constant" if np.isnan(within) else f"{within:.2f}"


def _clarity(estimate: Estimate) -> str:
    return ", and the interval holds zero" if estimate.low is not None and estimate.sign == 0 else ""


def _less_or_more(difference: Estimate) -> str:
    if difference.low is None:
        return "less or more: one seed cannot tell"
    return {1: "less", -1: "more, opposite to the hypothesis", 0: "neither clearly less nor more"}[
        difference.sign
    ]

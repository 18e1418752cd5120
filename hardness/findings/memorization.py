"""Does the median of gradients reduce memorization?

A reading has one quantity per optimizer, and its differences between optimizers, in one noise level. The unit
is the training seed: differences are paired by it, and intervals are over it.
"""

from dataclasses import dataclass
from itertools import product
from operator import attrgetter

import numpy as np
import pandas as pd

from hardness.findings.curves import at_first_crossing, last_epoch
from hardness.findings.words import ONE_SEED, Words, judged
from hardness.registry import OPTIMIZERS
from hardness.statistics import Estimate

_GRID = 50
_MEMORIZES = ("it memorizes less", "it memorizes more, opposite to the hypothesis")
_NOT_ANSWERED = (
    "Not answered: this needs label noise strictly between 0 and 1, runs that learn, and a median (m3 or "
    "rm3) with SGD or its own control."
)


def compared(optimizers: list[str]) -> list[tuple[str, str]]:
    """(control, test) pairs: a difference is due to the median, of groups or rolling.

    Pairs of which both were trained, on plain SGD and on every base (``rm3+adamw``). The closest control of
    a test comes last: steps of scaled RA3 are as long as those of RM3.
    """
    bases = [name.partition("+")[2] for name in optimizers]
    pairs = []
    for plain, on_it in [("sgd", ""), *((base, f"+{base}") for base in dict.fromkeys(filter(None, bases)))]:
        for test in filter(attrgetter("controls"), OPTIMIZERS.values()):
            name = test.name + on_it
            pairs += [(plain, name), *((control + on_it, name) for control in test.controls)]
    return [pair for pair in pairs if set(pair) <= set(optimizers)]


@dataclass(frozen=True)
class Compared:
    """A quantity of each optimizer."""

    by_optimizer: dict[str, Estimate]
    differences: dict[tuple[str, str], Estimate]
    """(control, test) -> control minus test, paired over common seeds. If the quantity is large with more
    memorization, positive means that the test memorized less."""

    @classmethod
    def of(cls, values: pd.Series) -> "Compared":
        """values: the quantity. Index: (optimizer, seed)."""
        by_seed = {name: part.droplevel(0) for name, part in values.groupby(level=0, sort=False)}
        return cls(
            {name: Estimate.of(part) for name, part in by_seed.items()},
            {(a, b): Estimate.of((by_seed[a] - by_seed[b]).dropna()) for a, b in compared(list(by_seed))},
        )


@dataclass(frozen=True)
class EqualPristine:
    """The reading at equal pristine accuracy: accuracy on corrupt examples."""

    noise: float
    table: pd.DataFrame
    """optimizer, seed, pristine (levels of pristine accuracy, up to the largest that every run reached),
    corrupt (accuracy against the given labels), corrupt-clean (against the clean ones)."""
    at_maximum: Compared
    mean_over_grid: Compared
    clean_at_maximum: Compared

    def estimates(self) -> dict[str, Estimate]:
        found = {}
        for optimizer in self.at_maximum.by_optimizer:
            found[f"{optimizer} at the maximum"] = self.at_maximum.by_optimizer[optimizer]
            found[f"{optimizer} mean over the grid"] = self.mean_over_grid.by_optimizer[optimizer]
            found[f"{optimizer} clean labels at the maximum"] = self.clean_at_maximum.by_optimizer[optimizer]
        for control, test in self.at_maximum.differences:
            found[f"{control} - {test} at the maximum"] = self.at_maximum.differences[control, test]
            found[f"{control} - {test} mean over the grid"] = self.mean_over_grid.differences[control, test]
        return found

    def words(self) -> Words:
        noise, pristine = f"{self.noise:g}", self.table["pristine"].max().item()
        texts = "; ".join(
            f"{optimizer} {top1} against the given (wrong) labels, "
            f"{self.clean_at_maximum.by_optimizer[optimizer].mean:.3f} against the clean labels"
            for optimizer, top1 in self.at_maximum.by_optimizer.items()
        )
        sentences = [
            f"Noise {noise}: when accuracy on pristine examples first reaches {pristine:.3f}, the highest "
            f"level that every run reached, accuracy on corrupt examples is: {texts}."
        ]
        readings = {
            "at the highest of these levels": self.at_maximum,
            "mean over all levels of pristine accuracy": self.mean_over_grid,
        }
        for (control, test), how in product(self.at_maximum.differences, readings):
            difference = readings[how].differences[control, test]
            answer = f"{judged(difference, *_MEMORIZES)}; {control} - {test} = {difference}"
            sentences.append(f"Noise {noise}, {test} compared with {control} ({how}): {answer}.")
        # The last control of a test is the closest one.
        closest = {test: control for control, test in self.mean_over_grid.differences}
        differences = {test: self.mean_over_grid.differences[closest[test], test] for test in closest}
        headline = ""
        if closest:
            texts = "; ".join(f"{closest[test]} - {test} = {each}" for test, each in differences.items())
            headline = (
                f"{_reduced(list(differences.values()))}: at noise {noise} and equal accuracy on pristine "
                f"examples, accuracy on corrupt examples differs by {texts} (positive: the median memorizes "
                "less)."
            )
        numbers = {f"noise {noise}": self.noise, f"noise {noise}: pristine accuracy": pristine}
        cautions = [ONE_SEED] if any(each.low is None for each in self.estimates().values()) else []
        return Words(headline, sentences, numbers, cautions)


def equal_pristine(curves: pd.DataFrame) -> EqualPristine | None:
    """Accuracy on corrupt examples at the first epoch at which pristine accuracy crosses p, interpolated.

    curves: of one noise level. p runs over a grid from the largest accuracy before training to the smallest
    maximum over all runs. None if a group is missing, or pristine accuracy did not increase in every run.
    """
    top1 = curves.pivot_table("top1", ["optimizer", "seed", "epoch"], "measured_on", sort=False)
    # At noise 1, the few labels that are clean by chance do not count as pristine examples.
    if (curves["noise"] == 1).any() or not {"pristine", "corrupt"} <= set(top1.columns):
        return None
    groups = top1.groupby(level=["optimizer", "seed"], sort=False)
    members = {key: table.sort_index(level="epoch") for key, table in groups}
    low = max(table["pristine"].iloc[0] for table in members.values())
    high = min(table["pristine"].max() for table in members.values())
    if high <= low:
        return None
    grid = np.linspace(low, high, _GRID)

    parts = []
    for (optimizer, seed), table in members.items():
        part = pd.DataFrame({"optimizer": optimizer, "seed": seed, "pristine": grid})
        for name in ("corrupt", "corrupt-clean"):
            part[name] = at_first_crossing(table["pristine"].to_numpy(), table[name].to_numpy(), grid)
        parts.append(part)
    table = pd.concat(parts)
    by_run = table.groupby(["optimizer", "seed"], sort=False)
    return EqualPristine(
        float(curves["noise"].iloc[0]),
        table,
        at_maximum=Compared.of(by_run["corrupt"].last()),
        mean_over_grid=Compared.of(by_run["corrupt"].agg(lambda top1: top1.to_numpy().mean())),
        clean_at_maximum=Compared.of(by_run["corrupt-clean"].last()),
    )


@dataclass(frozen=True)
class TrainAccuracy:
    """If there is no reading at equal pristine accuracy: top-1 on training examples at the last epoch."""

    noise: float
    by_optimizer: dict[str, Estimate]

    @classmethod
    def of(cls, curves: pd.DataFrame) -> "TrainAccuracy":
        """curves: of one noise level."""
        last = last_epoch(curves)
        top1 = last[last["measured_on"] == "train"].groupby("optimizer", sort=False)["top1"]
        return cls(float(curves["noise"].iloc[0]), {name: Estimate.of(values) for name, values in top1})

    def estimates(self) -> dict[str, Estimate]:
        return {f"{optimizer} train": top1 for optimizer, top1 in self.by_optimizer.items()}

    def words(self) -> Words:
        noise = f"{self.noise:g}"
        texts = "; ".join(f"{optimizer} {top1}" for optimizer, top1 in self.by_optimizer.items())
        sentences = [f"Noise {noise}: train accuracy at the last epoch: {texts}."]
        if 0 < self.noise < 1:
            sentences.append(
                f"Noise {noise}: no comparison at equal pristine accuracy, because it did not increase in "
                "every run. Train longer."
            )
        return Words("", sentences, {f"noise {noise}": self.noise})


@dataclass(frozen=True)
class Memorization:
    """The readings of all noise levels."""

    readings: list[EqualPristine | TrainAccuracy]

    @classmethod
    def of(cls, curves: pd.DataFrame) -> "Memorization":
        """curves: memorization curves of one or more noise levels."""
        levels = [level for _, level in curves.groupby("noise", sort=False)]
        return cls([equal_pristine(level) or TrainAccuracy.of(level) for level in levels])

    def estimates(self) -> dict[str, Estimate]:
        return {
            f"noise {reading.noise:g}: {name}": estimate
            for reading in self.readings
            for name, estimate in reading.estimates().items()
        }

    def words(self) -> Words:
        texts = [reading.words() for reading in self.readings]
        return Words(
            " ".join(words.headline for words in texts if words.headline) or _NOT_ANSWERED,
            [sentence for words in texts for sentence in words.sentences],
            {name: value for words in texts for name, value in words.numbers.items()},
            list(dict.fromkeys(caution for words in texts for caution in words.cautions)),
        )


def _reduced(differences: list[Estimate]) -> str:
    if any(each.low is None for each in differences):
        return "One seed gives no interval"
    signs = {each.sign for each in differences}
    if signs == {0}:
        return "No significant difference"
    if signs == {1}:
        return "Yes"
    return "No, the median memorizes more" if signs == {-1} else "The results differ by optimizer"

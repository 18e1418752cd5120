"""Do easy examples generalize better within their own set?

The unit is the tracking seed: differences are paired by it, and intervals are over it.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hardness.findings.curves import last_epoch
from hardness.findings.words import ONE_SEED, Words, includes_0
from hardness.statistics import Estimate
from hardness.subsets import CONTROLS

_ROUNDING = 1e-9
"""Accuracies that differ by less are equal: the order of a sum changes its rounding."""
_FITTED = 0.9


def pool_controls(curves: pd.DataFrame) -> pd.DataFrame:
    """Give every control the name of its subset's first one, so that means are over all of them."""
    names = curves["trained_on"].str.replace(r"-control-\d+$", "-control", regex=True)
    return curves.assign(trained_on=names)


def transfer_matrix(curves: pd.DataFrame) -> pd.DataFrame:
    """Train-on x test-on at the last epoch, one row per tracking seed.

    curves: retraining curves with a column tracking_seed. Means are over retraining seeds, and over a
    subset's controls. Index: (tracking_seed, trained_on); columns: measured_on.
    """
    last = pool_controls(last_epoch(curves))
    return last.pivot_table("top1", ["tracking_seed", "trained_on"], "measured_on")


def own_and_controls(curves: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of easy, hard and their controls on the subset's test fold: the null distribution.

    curves: retraining curves with a column tracking_seed. Columns: tracking_seed, subset, trained_on,
    is_control, top1 (at the last epoch, mean over retraining seeds).
    """
    last = last_epoch(curves)
    subset = pool_controls(last)["trained_on"].replace({control: name for name, control in CONTROLS.items()})
    last = last.assign(subset=subset, is_control=subset != last["trained_on"])
    last = last[subset.isin(CONTROLS) & (subset == last["measured_on"])]
    keys = ["tracking_seed", "subset", "trained_on", "is_control"]
    return last.groupby(keys, as_index=False, sort=False)["top1"].mean()


@dataclass(frozen=True)
class AmongControls:
    """The position of a subset of one tracking seed among its controls, of which there are at least two."""

    num_controls: int
    deviation: float
    """Standard deviation (ddof 1) of the controls."""
    distance: float | None
    """From their mean, in standard deviations; None if all controls are equal."""
    p_value: float
    """Exact, one-sided, by Monte Carlo: it counts the subset among its controls (Phipson & Smyth 2010,
    https://doi.org/10.2202/1544-6115.1585)."""

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "AmongControls":
        """rows: those of ``own_and_controls`` of one tracking seed and subset."""
        (own,) = rows.loc[~rows["is_control"], "top1"]
        controls = rows.loc[rows["is_control"], "top1"].to_numpy()
        deviation = controls.std(ddof=1)
        distance = (own - controls.mean()) / deviation if deviation > _ROUNDING else None
        p_value = (1 + (controls >= own - _ROUNDING).sum()) / (len(controls) + 1)
        return cls(len(controls), deviation, distance, p_value)

    @property
    def least_p_value(self) -> float:
        return 1 / (self.num_controls + 1)

    def estimates(self) -> dict[str, Estimate]:
        values = {
            "controls": self.num_controls,
            "standard deviation": self.deviation,
            "distance in standard deviations": self.distance,
            "p-value": self.p_value,
            "least p-value that there can be": self.least_p_value,
        }
        return {name: Estimate.of([value]) for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Generalization:
    """Top-1 accuracies at the last epoch. With several controls, a control's is their mean."""

    test: dict[tuple[str, str], Estimate]
    """(trained on, tested on): easy, hard and random on themselves; the controls on their subsets."""
    train: dict[str, Estimate]
    """Easy, hard and their controls, on their own train folds."""
    within_subset: Estimate
    """(easy -> easy) - (hard -> hard)."""
    own_subset: dict[str, Estimate]
    """Subset -> its own-subset advantage, (easy -> easy) - (easy-control -> easy), and the same for hard."""
    among_controls: dict[tuple[str, str], AmongControls]
    """(tracking seed, subset), if it has several controls."""

    @classmethod
    def of(cls, curves: pd.DataFrame) -> "Generalization":
        """curves: retraining curves with a column tracking_seed."""
        matrix = transfer_matrix(curves)

        def cell(trained_on: str, measured_on: str) -> np.ndarray:
            return matrix.xs(trained_on, level="trained_on")[measured_on].to_numpy()

        pairs = [(name, name) for name in ("easy", "hard", "random")]
        pairs += [(control, name) for name, control in CONTROLS.items()]
        top1 = {pair: cell(*pair) for pair in pairs}
        groups = own_and_controls(curves).groupby(["tracking_seed", "subset"], sort=False)
        return cls(
            test={pair: Estimate.of(values) for pair, values in top1.items()},
            train={name: Estimate.of(cell(name, "train")) for name in (*CONTROLS, *CONTROLS.values())},
            within_subset=Estimate.of(top1["easy", "easy"] - top1["hard", "hard"]),
            own_subset={n: Estimate.of(top1[n, n] - top1[control, n]) for n, control in CONTROLS.items()},
            # More than the subset and one control.
            among_controls={key: AmongControls.of(rows) for key, rows in groups if len(rows) > 2},
        )

    def estimates(self) -> dict[str, Estimate]:
        found = {f"{trained_on}->{tested_on}": top1 for (trained_on, tested_on), top1 in self.test.items()}
        found |= {f"{name} train": top1 for name, top1 in self.train.items()}
        found["within-subset"] = self.within_subset
        found |= {f"own-subset advantage of {name}": each for name, each in self.own_subset.items()}
        for (seed, name), among in self.among_controls.items():
            where = f"{name} among its controls, tracking seed {seed}"
            found |= {f"{where}: {what}": estimate for what, estimate in among.estimates().items()}
        return found

    def words(self) -> Words:
        within, own = self.within_subset, self.own_subset["easy"]
        accuracies = (
            f"trained and tested on easy examples, networks reach a test accuracy of "
            f"{self.test['easy', 'easy'].mean:.3f}; on hard examples, {self.test['hard', 'hard'].mean:.3f}"
        )
        opposite = within.sign < 0 or (within.low is None and within.mean < 0)
        sentences = [
            f"Within-subset generalization{' (opposite to the hypothesis)' if opposite else ''}: {accuracies}"
            f" (train accuracy {self.train['easy'].mean:.3f} and {self.train['hard'].mean:.3f}). "
            f"Difference, easy minus hard: {within}{includes_0(within)}."
        ]
        for name in CONTROLS:
            sentences += self._own_subset_words(name)
        cautions = [ONE_SEED] if within.low is None else []
        if self.train["hard"].mean < _FITTED:
            cautions.append(
                f"The networks fitted only {self.train['hard'].mean:.3f} of the hard examples that they "
                "trained on: longer training may change the result."
            )
        answer = {1: "Yes", 0: "No significant difference", -1: "No, the opposite"}[within.sign]
        if within.low is None:
            answer = f"One seed suggests {'yes' if within.mean > 0 else 'no'}"
        headline = (
            f"{answer}: {accuracies}; difference {within}. Tested on easy examples, training on easy examples"
            f" is {_better(own)} training on a random set of the same classes; difference {own}."
        )
        return Words(headline, sentences, cautions=cautions)

    def _own_subset_words(self, name: str) -> list[str]:
        """One sentence; with several controls, another one about the position among them."""
        advantage, control = self.own_subset[name], CONTROLS[name]
        among = [each for (_, subset), each in self.among_controls.items() if subset == name]
        others = f"{min(each.num_controls for each in among)} random sets" if among else "a random set"
        sentence = (
            f"Own-subset advantage of {name}: tested on {name} examples, training on {name} examples is "
            f"{_better(advantage)} training on {others} of the same classes (test accuracy "
            f"{self.test[name, name].mean:.3f} and {self.test[control, name].mean:.3f}, train accuracy "
            f"{self.train[name].mean:.3f} and {self.train[control].mean:.3f}). "
            f"Difference: {advantage}{includes_0(advantage)}."
        )
        return [sentence, *([_among_words(name, among)] if among else [])]


def _better(advantage: Estimate) -> str:
    if advantage.low is None:
        return f"{'better' if advantage.mean > 0 else 'not better'}, in this one seed, than"
    return {1: "better than", -1: "worse than", 0: "not significantly different from"}[advantage.sign]


def _among_words(name: str, among: list[AmongControls]) -> str:
    """among: of each tracking seed."""
    p_value = max(each.p_value for each in among)
    largest = f"one-sided p-value {p_value:.3f} (one tracking seed)"
    if len(among) > 1:
        largest = f"largest one-sided p-value {p_value:.3f} over {len(among)} tracking seeds"
    sentence = (
        f"Own-subset advantage of {name} against the distribution of its "
        f"{min(each.num_controls for each in among)} controls: {largest}; the smallest possible p-value is "
        f"{max(each.least_p_value for each in among):.3f}."
    )
    if distances := [each.distance for each in among if each.distance is not None]:
        low, high = f"{min(distances):+.1f}", f"{max(distances):+.1f}"
        span = low if low == high else f"{low} to {high}"
        sentence += f" Distance from the mean of the controls, in their standard deviations: {span}."
    return sentence

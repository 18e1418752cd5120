"""From curves to verdicts: the numbers, with intervals over independent seeds.

The unit is the tracking seed (for memorization: the training seed). Differences are paired by it.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hardness.statistics import Estimate
from hardness.subsets import CONTROLS

_GRID = 50
_ROUNDING = 1e-9
"""Accuracies that differ by less are equal: the order of a sum changes its rounding."""
AMONG = "{} among its controls, tracking seed"
"""Start of the names of estimates that are per tracking seed."""
LEAST_P = "least p-value that there can be"


def last_epoch(curves: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last epoch, not of the best one."""
    return curves[curves["epoch"] == curves["epoch"].max()]


def pool_controls(curves: pd.DataFrame) -> pd.DataFrame:
    """Give every control the name of its subset's first one, so that means are over all of them."""
    names = curves["trained_on"].str.replace(r"-control-\d+$", "-control", regex=True)
    return curves.assign(trained_on=names)


def transfer_matrix(curves: pd.DataFrame, metric: str = "top1") -> pd.DataFrame:
    """Train-on x test-on at the last epoch, one row per tracking seed.

    curves: retraining curves with a column tracking_seed. Means are over retraining seeds, and over a
    subset's controls. Index: (tracking_seed, trained_on); columns: measured_on.
    """
    last = pool_controls(last_epoch(curves))
    return last.pivot_table(metric, ["tracking_seed", "trained_on"], "measured_on", aggfunc="mean")


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


def hardness_verdicts(curves: pd.DataFrame) -> dict[str, Estimate]:
    """The two hardness verdicts, with test and train accuracies.

    within-subset: (easy -> easy) - (hard -> hard). own-subset advantage: (easy -> easy) -
    (easy-control -> easy), and the same for hard. All are top-1 at the last epoch. With several controls, it
    is their mean, and ``_among_controls`` adds the position of each tracking seed among its own.
    """
    matrix = transfer_matrix(curves)

    def cell(trained_on: str, measured_on: str) -> np.ndarray:
        return matrix.xs(trained_on, level="trained_on")[measured_on].to_numpy()

    easy, hard = cell("easy", "easy"), cell("hard", "hard")
    values = {
        "easy->easy": easy,
        "hard->hard": hard,
        "random->random": cell("random", "random"),
        "easy-control->easy": cell("easy-control", "easy"),
        "hard-control->hard": cell("hard-control", "hard"),
        "easy train": cell("easy", "train"),
        "hard train": cell("hard", "train"),
        "easy-control train": cell("easy-control", "train"),
        "hard-control train": cell("hard-control", "train"),
        "within-subset": easy - hard,
        "own-subset advantage of easy": easy - cell("easy-control", "easy"),
        "own-subset advantage of hard": hard - cell("hard-control", "hard"),
    }
    return {name: Estimate.of(value) for name, value in values.items()} | _among_controls(curves)


def _among_controls(curves: pd.DataFrame) -> dict[str, Estimate]:
    """The position of each tracking seed's easy and hard among their controls, if they have at least two.

    Standard deviation (ddof 1) of the controls; distance of the subset's accuracy from their mean in
    standard deviations, unless all controls are equal; and the exact one-sided Monte Carlo p-value, which
    counts the subset among its controls (Phipson & Smyth 2010, https://doi.org/10.2202/1544-6115.1585).
    """
    estimates = {}
    for (seed, name), found in own_and_controls(curves).groupby(["tracking_seed", "subset"], sort=False):
        (own,) = found.loc[~found["is_control"], "top1"]
        controls = found.loc[found["is_control"], "top1"].to_numpy()
        if len(controls) < 2:
            continue
        deviation = controls.std(ddof=1)
        values = {"controls": len(controls), "standard deviation": deviation}
        if deviation > _ROUNDING:
            values["distance in standard deviations"] = (own - controls.mean()) / deviation
        values["p-value"] = (1 + (controls >= own - _ROUNDING).sum()) / (len(controls) + 1)
        values[LEAST_P] = 1 / (len(controls) + 1)
        for what, value in values.items():
            estimates[f"{AMONG.format(name)} {seed}: {what}"] = Estimate.of([value])
    return estimates


@dataclass(frozen=True)
class EqualPristine:
    """Accuracy on corrupt examples at equal accuracy on pristine ones, at one noise level.

    ``grid`` is p; ``corrupt`` and ``corrupt_clean`` map (optimizer, seed) to accuracies on it, against the
    given and the clean labels.
    """

    grid: np.ndarray
    corrupt: dict[tuple[str, int], np.ndarray]
    corrupt_clean: dict[tuple[str, int], np.ndarray]

    @property
    def optimizers(self) -> list[str]:
        return list(dict.fromkeys(optimizer for optimizer, _ in self.corrupt))

    def at_maximum(self, optimizer: str) -> pd.Series:
        """By seed, at the largest p that every optimizer reached."""
        return pd.Series({seed: v[-1] for (name, seed), v in self.corrupt.items() if name == optimizer})

    def mean_over_grid(self, optimizer: str) -> pd.Series:
        return pd.Series({seed: v.mean() for (name, seed), v in self.corrupt.items() if name == optimizer})

    def clean_at_maximum(self, optimizer: str) -> pd.Series:
        """By seed: corrupt examples against their clean labels."""
        return pd.Series({seed: v[-1] for (name, seed), v in self.corrupt_clean.items() if name == optimizer})


def equal_pristine(curves: pd.DataFrame) -> EqualPristine | None:
    """Accuracy on corrupt examples at the first epoch at which pristine accuracy crosses p, interpolated.

    curves: of one noise level. p runs over a grid from the largest accuracy before training to the smallest
    maximum over all runs. None if a group is missing, or pristine accuracy did not increase in every run.
    """
    top1 = curves.pivot_table("top1", ["optimizer", "seed", "epoch"], "measured_on", sort=False)
    # At noise 1, the few labels that are clean by chance do not count as pristine examples.
    if (curves["noise"] == 1).any() or not {"pristine", "corrupt"} <= set(top1.columns):
        return None
    members = {
        key: table.droplevel([0, 1]).sort_index() for key, table in top1.groupby(level=[0, 1], sort=False)
    }
    low = max(table["pristine"].iloc[0] for table in members.values())
    high = min(table["pristine"].max() for table in members.values())
    if high <= low:
        return None
    grid = np.linspace(low, high, _GRID)

    def at_levels(measured_on: str) -> dict[tuple[str, int], np.ndarray]:
        return {
            key: at_first_crossing(table["pristine"].to_numpy(), table[measured_on].to_numpy(), grid)
            for key, table in members.items()
        }

    return EqualPristine(grid, at_levels("corrupt"), at_levels("corrupt-clean"))


def at_first_crossing(rising: np.ndarray, values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """``values`` where the curve ``rising`` first reaches each level of ``grid``, linearly interpolated."""
    # The running maximum reaches a level at the same epoch as the curve.
    epochs = np.searchsorted(np.maximum.accumulate(rising), grid, side="left")
    assert epochs.max() < len(rising)
    before = np.maximum(epochs - 1, 0)
    rise = rising[epochs] - rising[before]
    share = np.divide(grid - rising[before], rise, out=np.ones_like(grid), where=rise > 0)
    return values[before] + share * (values[epochs] - values[before])


def compared(optimizers: list[str]) -> list[tuple[str, str]]:
    """(control, test) pairs: a difference is due to the median, of groups or rolling.

    Pairs of which both were trained, on plain SGD and on every base (``rm3+adamw``). The closest control of
    a test comes last: steps of scaled RA3 are as long as those of RM3.
    """
    bases = [name.partition("+")[2] for name in optimizers]
    pairs = []
    for plain, on_it in [("sgd", ""), *((base, f"+{base}") for base in dict.fromkeys(filter(None, bases)))]:
        for test, *controls in (("m3", "a3"), ("rm3", "ra3", "ra3-scaled")):
            pairs += [(plain, test + on_it), *((control + on_it, test + on_it) for control in controls)]
    return [pair for pair in pairs if set(pair) <= set(optimizers)]


@dataclass(frozen=True)
class Memorization:
    """The results of one noise level."""

    noise: float
    optimizers: list[str]
    estimates: dict[str, Estimate]
    pristine: float | None
    """The largest pristine accuracy that every run reached; None if there is no common level."""


def memorization(curves: pd.DataFrame) -> Memorization:
    """The memorization verdict of one noise level.

    Between 0 and 1: accuracy on corrupt examples at equal pristine accuracy, at the largest that every run
    reached and as a mean over the grid, and the differences that test the hypothesis, paired over common
    seeds: positive if the second optimizer memorized less. If no example is pristine or none is corrupt:
    train accuracy at the last epoch.
    """
    equal = equal_pristine(curves)
    noise = float(curves["noise"].iloc[0])
    if equal is None:
        last = last_epoch(curves)
        train = last[last["measured_on"] == "train"].groupby("optimizer", sort=False)["top1"]
        estimates = {f"{optimizer} train": Estimate.of(top1) for optimizer, top1 in train}
        return Memorization(noise, list(train.groups), estimates, None)
    readings = {"at the maximum": equal.at_maximum, "mean over the grid": equal.mean_over_grid}
    estimates = {
        f"{optimizer} {name}": Estimate.of(read(optimizer))
        for optimizer in equal.optimizers
        for name, read in {**readings, "clean labels at the maximum": equal.clean_at_maximum}.items()
    }
    for first, second in compared(equal.optimizers):
        for name, read in readings.items():
            estimates[f"{first} - {second} {name}"] = Estimate.of((read(first) - read(second)).dropna())
    return Memorization(noise, equal.optimizers, estimates, float(equal.grid[-1]))

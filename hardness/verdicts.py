"""From curves to verdicts: what the numbers say, with intervals over independent seeds.

The unit is the tracking seed (for memorization: the training seed). Differences are paired by it.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hardness.agreement import kinds_of_difference
from hardness.statistics import Estimate
from hardness.subsets import CONTROLS

_GRID = 50
_ROUNDING = 1e-9
"""Accuracies that are as near are equal: sums of the same in another order."""
_AMONG = "{} among its controls, tracking seed"
"""How the names of the estimates begin that each tracking seed has of its own."""


def last_epoch(curves: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last epoch (never the best one)."""
    return curves[curves["epoch"] == curves["epoch"].max()]


def pool_controls(curves: pd.DataFrame) -> pd.DataFrame:
    """Every control under the name of its subset's first one, so that means are over all of them."""
    names = curves["trained_on"].str.replace(r"-control-\d+$", "-control", regex=True)
    return curves.assign(trained_on=names)


def transfer_matrix(curves: pd.DataFrame, metric: str = "top1") -> pd.DataFrame:
    """Train-on x test-on at the last epoch, one row a tracking seed.

    curves: retraining curves with a column tracking_seed. Means are over retraining seeds, and over a
    subset's controls. Index: (tracking_seed, trained_on); columns: measured_on.
    """
    last = pool_controls(last_epoch(curves))
    return last.pivot_table(metric, ["tracking_seed", "trained_on"], "measured_on", aggfunc="mean")


def own_and_controls(curves: pd.DataFrame) -> pd.DataFrame:
    """What easy, hard and their controls come to on the subset's test fold: the null distribution.

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
    """The two hardness verdicts, test accuracies, and train accuracies beside them.

    within-subset: (easy -> easy) - (hard -> hard). own-subset advantage: (easy -> easy) -
    (easy-control -> easy), and the same for hard. All are top-1 at the last epoch; of several controls the
    mean, and where there are, each tracking seed's place among its own (``_among_controls``).
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
    """Where each tracking seed's easy and hard lie among their controls, if they have two or more.

    Standard deviation (ddof 1) of the controls; how many of them lie between the subset's own accuracy and
    the controls' mean, unless they are all equal; and the exact one-sided Monte Carlo p-value, which counts
    the subset among its controls (Phipson & Smyth 2010, https://doi.org/10.2202/1544-6115.1585).
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
        for what, value in values.items():
            estimates[f"{_AMONG.format(name)} {seed}: {what}"] = Estimate.of([value])
    return estimates


@dataclass(frozen=True)
class EqualPristine:
    """Corrupt accuracy read across at equal pristine accuracy, at one noise level.

    ``grid`` is p; ``corrupt`` and ``corrupt_clean`` map (optimizer, seed) to accuracies on it, against the
    given and the clean labels.
    """

    grid: np.ndarray
    corrupt: dict[tuple[str, int], np.ndarray]
    corrupt_clean: dict[tuple[str, int], np.ndarray]

    @property
    def optimizers(self) -> list[str]:
        return list(dict.fromkeys(optimizer for optimizer, _ in self.corrupt))

    def at_maximum(self, optimizer: str) -> np.ndarray:
        """A value a seed, at the largest p that every optimizer reached."""
        return self._a_seed(optimizer)[:, -1]

    def mean_over_grid(self, optimizer: str) -> np.ndarray:
        return self._a_seed(optimizer).mean(1)

    def clean_at_maximum(self, optimizer: str) -> np.ndarray:
        """A value a seed: corrupt examples against their clean labels."""
        return np.array([v[-1] for (name, _), v in sorted(self.corrupt_clean.items()) if name == optimizer])

    def _a_seed(self, optimizer: str) -> np.ndarray:
        return np.array([v for (name, _), v in sorted(self.corrupt.items()) if name == optimizer])


def equal_pristine(curves: pd.DataFrame) -> EqualPristine | None:
    """Read corrupt accuracy at the first epoch at which pristine accuracy crosses p, interpolated.

    curves: of one noise level. p runs over a grid up to the smallest maximum that any run reached; it
    begins at the largest accuracy that any had before training. None where a group is missing, or no
    learning happened.
    """
    top1 = curves.pivot_table("top1", ["optimizer", "seed", "epoch"], "measured_on", sort=False)
    # At noise 1 the few labels that came out clean by chance are no pristine examples to learn from.
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

    def across(measured_on: str) -> dict[tuple[str, int], np.ndarray]:
        return {
            key: at_first_crossing(table["pristine"].to_numpy(), table[measured_on].to_numpy(), grid)
            for key, table in members.items()
        }

    return EqualPristine(grid, across("corrupt"), across("corrupt-clean"))


def at_first_crossing(rising: np.ndarray, values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """``values`` where the curve ``rising`` first reaches each level of ``grid``, linearly interpolated."""
    # The running maximum first reaches a level where the curve does.
    epochs = np.searchsorted(np.maximum.accumulate(rising), grid, side="left")
    assert epochs.max() < len(rising)
    before = np.maximum(epochs - 1, 0)
    rise = rising[epochs] - rising[before]
    share = np.divide(grid - rising[before], rise, out=np.ones_like(grid), where=rise > 0)
    return values[before] + share * (values[epochs] - values[before])


def _compared(optimizers: list[str]) -> list[tuple[str, str]]:
    """Control and test: what the second does beyond the first is due to the median (of groups, or rolling).

    Each on plain SGD, and on every base that is there (``rm3+adamw``).
    """
    bases = [name.partition("+")[2] for name in optimizers]
    pairs = []
    for plain, on_it in [("sgd", ""), *((base, f"+{base}") for base in dict.fromkeys(filter(None, bases)))]:
        for test, control in (("m3", "a3"), ("rm3", "ra3")):
            pairs += [(plain, test + on_it), (control + on_it, test + on_it)]
    return pairs


@dataclass(frozen=True)
class Memorization:
    """What one noise level says of the optimizers."""

    estimates: dict[str, Estimate]
    sentences: list[str]


def memorization(curves: pd.DataFrame) -> Memorization:
    """The memorization verdict of one noise level.

    Between 0 and 1: accuracy on corrupt examples at equal pristine accuracy, at the largest that every run
    reached and as a mean over the grid, and the paired differences that test the hypothesis: positive where
    the second optimizer memorized less. Where no example is pristine or none is corrupt: training accuracy
    at the last epoch.
    """
    across = equal_pristine(curves)
    noise = curves["noise"].iloc[0]
    if across is None:
        last = last_epoch(curves)
        train = last[last["measured_on"] == "train"].groupby("optimizer", sort=False)["top1"]
        estimates = {f"{optimizer} train": Estimate.of(top1) for optimizer, top1 in train}
        told = "; ".join(f"{name.split()[0]} {estimate}" for name, estimate in estimates.items())
        sentences = [f"Noise {noise:g}: training accuracy at the last epoch: {told}."]
        if 0 < noise < 1:
            sentences.append(
                f"Noise {noise:g}: no comparison at equal pristine accuracy, since not every run rose "
                "above where it began: train longer."
            )
        return Memorization(estimates, sentences)
    readings = {"at the maximum": across.at_maximum, "mean over the grid": across.mean_over_grid}
    estimates = {
        f"{optimizer} {name}": Estimate.of(read(optimizer))
        for optimizer in across.optimizers
        for name, read in {**readings, "clean labels at the maximum": across.clean_at_maximum}.items()
    }
    told = "; ".join(
        f"{optimizer} {estimates[f'{optimizer} at the maximum']}, against their clean labels "
        f"{estimates[f'{optimizer} clean labels at the maximum'].mean:.3f}"
        for optimizer in across.optimizers
    )
    sentences = [
        f"Noise {noise:g}: when pristine accuracy first reaches {across.grid[-1]:.3f}, the largest that "
        f"every run reached, accuracy on corrupt examples is: {told}."
    ]
    for first, second in _compared(across.optimizers):
        if {first, second} <= set(across.optimizers):
            for name, read in readings.items():
                estimate = Estimate.of(read(first) - read(second))
                estimates[f"{first} - {second} {name}"] = estimate
                sentences.append(
                    f"Noise {noise:g}, {second} against {first} ({name}): {second} memorizes "
                    f"{_less_or_more(estimate)}; {first} - {second} = {estimate}."
                )
    return Memorization(estimates, sentences)


def hardness_sentences(verdicts: dict[str, Estimate]) -> list[str]:
    """The two hardness verdicts in words, whatever their sign; where controls are several, their word too."""
    within = verdicts["within-subset"]
    leads = (
        "opposite to the hypothesis, " if within.sign < 0 or (within.low is None and within.mean < 0) else ""
    )
    sentences = [
        f"Within-subset: {leads}test accuracy is {verdicts['easy->easy'].mean:.3f} among easy examples and "
        f"{verdicts['hard->hard'].mean:.3f} among hard ones (train accuracy "
        f"{verdicts['easy train'].mean:.3f} and {verdicts['hard train'].mean:.3f}); "
        f"difference {within}{_clarity(within)}."
    ]
    for name in ("easy", "hard"):
        advantage = verdicts[f"own-subset advantage of {name}"]
        helps = {1: "helps", -1: "hurts", 0: "makes no clear difference"}[advantage.sign]
        if advantage.low is None:
            helps = "may help or not (one seed cannot tell)"
        num_controls = _a_seed(verdicts, name, "controls")
        others = f"{min(num_controls):.0f} random sets" if num_controls else "a random set"
        sentences.append(
            f"Own-subset advantage of {name}: training among {name} examples {helps} on {name} ones, "
            f"compared with {others} of the same classes ({verdicts[f'{name}->{name}'].mean:.3f} against "
            f"{verdicts[f'{name}-control->{name}'].mean:.3f}; train accuracy "
            f"{verdicts[f'{name} train'].mean:.3f} and {verdicts[f'{name}-control train'].mean:.3f}); "
            f"difference {advantage}{_clarity(advantage)}."
        )
        if num_controls:
            sentences.append(_told_by_controls(verdicts, name, min(num_controls)))
    return sentences


def _told_by_controls(verdicts: dict[str, Estimate], name: str, num_controls: float) -> str:
    p_values = _a_seed(verdicts, name, "p-value")
    distances = _a_seed(verdicts, name, "distance in standard deviations")
    largest = f"is {p_values[0]:.3f} (one tracking seed)"
    if len(p_values) > 1:
        largest = f"is {max(p_values):.3f} at the most over {len(p_values)} tracking seeds"
    sentence = (
        f"Own-subset advantage of {name}, its controls taken as what chance gives: the one-sided p-value "
        f"{largest}; with {num_controls:.0f} controls it cannot be below {1 / (num_controls + 1):.3f}."
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
        if key.startswith(_AMONG.format(name)) and key.endswith(f": {what}")
    ]


def agreement_sentences(summary: pd.DataFrame) -> list[str]:
    """The table of ``hardness.agreement.over_pairs`` in words."""
    sentences = []
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
        told = {}
        for what, of in (("least", both["plain"].idxmin()), ("most", both["plain"].idxmax())):
            values = both.loc[of]
            name = " and ".join(dict.fromkeys(of))
            told[what] = f"{name} ({values['plain']:.2f}, within classes {_or_constant(values)})"
        median = both.median()
        if differs is None:
            lead = "Two scores of one run have"
            ends = f"alike least: {told['least']}; most: {told['most']}"
        else:
            num_pairs = rows["num_pairs"].iloc[0]
            pairs = "1 pair" if num_pairs == 1 else f"{num_pairs} pairs"
            lead = f"A score has, in two runs that differ in {differs} ({pairs}),"
            ends = f"the most stable: {told['most']}; the least: {told['least']}"
        sentences.append(
            f"{lead} a Spearman correlation of {median['plain']:.2f} in the median, "
            f"{_or_constant(median)} within classes; {ends}."
        )
    return sentences


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

"""Are the gradients of easy examples more coherent?

Gradients of fitted examples vanish, so groups that are learned at different times are comparable only where
their losses are equal.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hardness.findings.curves import at_first_crossing
from hardness.findings.words import Words
from hardness.statistics import Estimate

PAIRS = (("easy", "hard"), ("easy", "easy-control"), ("hard", "hard-control"), ("pristine", "corrupt"))
"""Groups that are compared if both were measured."""
_GRID = 50


@dataclass(frozen=True)
class EqualLoss:
    """``grid`` (G,): decreasing mean losses, nats; ``coherence``: (group, seed) -> (G,) at those losses."""

    grid: np.ndarray
    coherence: dict[tuple[str, str], np.ndarray]


def equal_loss(table: pd.DataFrame) -> EqualLoss | None:
    """Coherence at the first epoch at which a group's mean loss falls to each level, interpolated.

    table: measured_on, seed, epoch, mean_loss, coherence of the whole network. The levels go from the
    smallest initial loss of the groups to the largest of their minima. Epochs without coherence (all
    gradients were zero) are skipped. None if the groups' losses do not overlap, or only one epoch was
    measured.
    """
    curves = {
        key: curve.sort_values("epoch")
        for key, curve in table.dropna(subset="coherence").groupby(["measured_on", "seed"], sort=False)
    }
    if not curves:
        return None
    high = min(curve["mean_loss"].iloc[0] for curve in curves.values())
    low = max(curve["mean_loss"].min() for curve in curves.values())
    if not low < high:
        return None
    grid = np.linspace(high, low, _GRID)
    return EqualLoss(
        grid,
        {
            key: at_first_crossing(-curve["mean_loss"].to_numpy(), curve["coherence"].to_numpy(), -grid)
            for key, curve in curves.items()
        },
    )


@dataclass(frozen=True)
class Difference:
    """Coherence of one group minus that of another, paired by seed."""

    over_training: Estimate | None
    """Mean over epochs from 1 on; None if there is none in which both had a gradient."""
    at_equal_loss: Estimate | None
    """Mean over the common levels of loss; None, as are the next two, if there are none."""
    at_lowest_loss: Estimate | None
    lowest_loss: float | None
    """The lowest common level, nats."""

    @classmethod
    def of(cls, pair: pd.DataFrame, one: str, other: str) -> "Difference":
        """pair: the rows of seeds in which both groups were measured, in epochs with a gradient."""
        by_epoch = pair[pair["epoch"] > 0].pivot_table("coherence", ["seed", "epoch"], "measured_on")
        by_epoch = by_epoch.reindex(columns=[one, other])
        difference = (by_epoch[one] - by_epoch[other]).groupby(level="seed").mean().dropna()
        over_training = Estimate.of(difference) if len(difference) else None
        equal = equal_loss(pair)
        if equal is None:
            return cls(over_training, None, None, None)
        seeds = sorted({seed for _, seed in equal.coherence})
        differences = np.array([equal.coherence[one, seed] - equal.coherence[other, seed] for seed in seeds])
        at_equal_loss, at_lowest = Estimate.of(differences.mean(1)), Estimate.of(differences[:, -1])
        return cls(over_training, at_equal_loss, at_lowest, equal.grid[-1])


@dataclass(frozen=True)
class Coherence:
    """Differences of coherence between the groups of ``PAIRS``."""

    differences: dict[tuple[str, str], Difference]

    @classmethod
    def of(cls, table: pd.DataFrame) -> "Coherence":
        """table: that of ``equal_loss``."""
        differences = {}
        for one, other in PAIRS:
            pair = table[table["measured_on"].isin([one, other])].dropna(subset="coherence")
            has_both = pair.groupby("seed")["measured_on"].nunique() == 2
            pair = pair[pair["seed"].map(has_both)]
            if len(pair):
                differences[one, other] = Difference.of(pair, one, other)
        return cls(differences)

    def estimates(self) -> dict[str, Estimate]:
        found = {}
        for (one, other), difference in self.differences.items():
            if difference.over_training:
                found[f"{one} - {other}: over training"] = difference.over_training
            if difference.at_equal_loss:
                found[f"{one} - {other}: at equal loss"] = difference.at_equal_loss
                found[f"{one} - {other}: at loss {difference.lowest_loss:.2f}"] = difference.at_lowest_loss
        return found

    def words(self) -> Words:
        """What the differences say about the coherent-gradients hypothesis."""
        sentences, headline = [], ""
        for (one, other), difference in self.differences.items():
            if over_training := difference.over_training:
                sentences.append(
                    f"Gradient coherence, mean over training, {one} - {other} = {over_training}."
                )
            if (at_equal_loss := difference.at_equal_loss) is None:
                continue
            verdict = {
                None: "one seed gives no interval",
                1: f"the gradients of {one} examples agree more than those of {other} ones",
                0: "no significant difference",
                -1: f"the gradients of {one} examples agree less than those of {other} ones",
            }[at_equal_loss.sign if at_equal_loss.num_seeds > 1 else None]
            sentences.append(
                f"Gradient coherence at equal mean loss, {one} - {other} = {at_equal_loss}: {verdict}."
            )
            # A class-matched control is the fairest comparison.
            if not headline or (one, other) == ("easy", "easy-control"):
                headline = sentences[-1]
        return Words(headline, sentences)

"""Are the gradients of easy examples more coherent?

Gradients of fitted examples vanish, so groups that are learned at different times are comparable only where
their losses are equal.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hardness.findings.curves import at_first_crossing
from hardness.findings.words import Words, judged
from hardness.statistics import Estimate

PAIRS = (("easy", "hard"), ("easy", "easy-control"), ("hard", "hard-control"), ("pristine", "corrupt"))
"""Groups that are compared if both were measured."""
_GRID = 50


def equal_loss(table: pd.DataFrame) -> pd.DataFrame | None:
    """Coherence at the first epoch at which a group's mean loss falls to each level, interpolated.

    table: measured_on, seed, epoch, mean_loss, coherence of the whole network. The levels go from the
    smallest initial loss of the groups to the largest of their minima. Epochs without coherence (all
    gradients were zero) are skipped. Index: 50 decreasing levels, nats; columns: (group, seed). None if the
    groups' losses do not overlap, or only one epoch was measured.
    """
    groups = table.dropna(subset="coherence").groupby(["measured_on", "seed"], sort=False)
    curves = {key: curve.sort_values("epoch") for key, curve in groups}
    if not curves:
        return None
    high = min(curve["mean_loss"].iloc[0] for curve in curves.values())
    low = max(curve["mean_loss"].min() for curve in curves.values())
    if not low < high:
        return None
    grid = np.linspace(high, low, _GRID)
    found = {
        key: at_first_crossing(-curve["mean_loss"].to_numpy(), curve["coherence"].to_numpy(), -grid)
        for key, curve in curves.items()
    }
    return pd.DataFrame(found, grid)


@dataclass(frozen=True)
class Coherence:
    """Differences of coherence, paired by seed: (one group, the other) -> one minus the other."""

    over_training: dict[tuple[str, str], Estimate]
    """Means over the epochs from 1 on in which both groups had a gradient."""
    at_equal_loss: dict[tuple[str, str], Estimate]
    """Means over the levels of ``equal_loss``."""
    at_lowest_loss: dict[tuple[str, str], tuple[float, Estimate]]
    """The lowest level, nats, and the differences there."""

    @classmethod
    def of(cls, table: pd.DataFrame) -> "Coherence":
        """table: as for ``equal_loss``. Only seeds in which both groups were measured are used."""
        found = cls({}, {}, {})
        for one, other in PAIRS:
            pair = table[table["measured_on"].isin([one, other])].dropna(subset="coherence")
            has_both = pair.groupby("seed")["measured_on"].nunique() == 2
            pair = pair[pair["seed"].map(has_both)]
            if pair.empty:
                continue
            by_epoch = pair[pair["epoch"] > 0].pivot_table("coherence", ["seed", "epoch"], "measured_on")
            by_epoch = by_epoch.reindex(columns=[one, other])
            difference = (by_epoch[one] - by_epoch[other]).groupby(level="seed").mean().dropna()
            if len(difference):
                found.over_training[one, other] = Estimate.of(difference)
            if (equal := equal_loss(pair)) is not None:
                difference = (equal[one] - equal[other]).sort_index(axis=1)
                found.at_equal_loss[one, other] = Estimate.of(difference.mean())
                found.at_lowest_loss[one, other] = equal.index[-1], Estimate.of(difference.iloc[-1])
        return found

    def estimates(self) -> dict[str, Estimate]:
        found = {}
        for pair in PAIRS:
            name = " - ".join(pair)
            if pair in self.over_training:
                found[f"{name}: over training"] = self.over_training[pair]
            if pair in self.at_equal_loss:
                found[f"{name}: at equal loss"] = self.at_equal_loss[pair]
                loss, difference = self.at_lowest_loss[pair]
                found[f"{name}: at loss {loss:.2f}"] = difference
        return found

    def words(self) -> Words:
        sentences, headline = [], ""
        for one, other in PAIRS:
            if (difference := self.over_training.get((one, other))) is not None:
                sentences.append(f"Gradient coherence, mean over training, {one} - {other} = {difference}.")
            if (difference := self.at_equal_loss.get((one, other))) is not None:
                agree, those = f"the gradients of {one} examples agree", f"those of {other} ones"
                answer = judged(difference, f"{agree} more than {those}", f"{agree} less than {those}")
                sentences.append(
                    f"Gradient coherence at equal mean loss, {one} - {other} = {difference}: {answer}."
                )
                # A class-matched control is the fairest comparison.
                if not headline or (one, other) == ("easy", "easy-control"):
                    headline = sentences[-1]
        return Words(headline, sentences)

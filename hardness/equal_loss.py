"""Coherence of groups of examples, compared at equal mean loss.

Gradients of fitted examples vanish, so groups that are learned at different times are comparable only where
their losses are equal.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hardness.statistics import Estimate
from hardness.verdicts import at_first_crossing

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


def coherence_estimates(table: pd.DataFrame) -> dict[str, Estimate]:
    """Differences of coherence between two groups, paired by seed.

    "easy - hard: over training" is the mean over epochs from 1 on, "... at equal loss" the mean over the
    common levels of loss, "... at loss 0.81" the value at the lowest of them. Only seeds in which both groups
    were measured, and epochs in which both had a gradient, are used.
    """
    found = {}
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
            found[f"{one} - {other}: over training"] = Estimate.of(difference)
        equal = equal_loss(pair)
        if equal is None:
            continue
        seeds = sorted({seed for _, seed in equal.coherence})
        differences = np.array([equal.coherence[one, seed] - equal.coherence[other, seed] for seed in seeds])
        found[f"{one} - {other}: at equal loss"] = Estimate.of(differences.mean(1))
        found[f"{one} - {other}: at loss {equal.grid[-1]:.2f}"] = Estimate.of(differences[:, -1])
    return found

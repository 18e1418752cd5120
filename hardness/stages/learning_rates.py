"""The learning rate of each optimizer, from runs of memorize that differ in it."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hardness import files
from hardness.console import say, warn
from hardness.errors import UserError
from hardness.stages.run_folder import finished_info


def searched_rates(runs: Sequence[Path], fingerprint: str, optimizers: Sequence[str]) -> dict[str, float]:
    """Optimizer -> the rate that was best in those finished runs of memorize; each is told.

    Raises ``UserError`` for runs of another stage or data set, for an optimizer that none of them trained on
    pristine examples, and for one whose rates were tried at different noise levels.
    """
    tables = []
    for run in runs:
        info = finished_info(run, "memorize")
        if info["fingerprint"] != fingerprint:
            found = f"{run} of data set {info['fingerprint']}"
            raise UserError(f"runs of data set {fingerprint} for --lr-from", found, "name others")
        curves = files.read_table(run / "curves.parquet", fingerprint).to_pandas()
        # A run of an older version had one rate for all.
        rates = info.get("learning_rates") or dict.fromkeys(
            info["config"]["optimizers"], info["config"]["lr"]
        )
        tables.append(curves.assign(run=str(run), lr=curves["optimizer"].map(rates)))
    table = pd.concat(tables, ignore_index=True).query("noise < 1")
    best = best_rates(table)
    for optimizer in optimizers:
        if optimizer not in best:
            expected = f"{optimizer}, trained on pristine examples, in a run of --lr-from"
            raise UserError(expected, "none", "name a run that has it, with --noise below 1")
        _tell(optimizer, best[optimizer], table[table["optimizer"] == optimizer])
    return {optimizer: best[optimizer] for optimizer in optimizers}


def best_rates(curves: pd.DataFrame) -> dict[str, float]:
    """Optimizer -> the rate of the best pristine accuracy, of equal ones the smallest.

    curves: those of curves.parquet, with columns run and lr. The accuracy is top-1 at a run's last epoch,
    mean over its seeds and noise levels; at noise 1 the few labels that came out clean by chance don't count.
    """
    is_last = curves["epoch"] == curves.groupby("run")["epoch"].transform("max")
    counts = is_last & (curves["measured_on"] == "pristine") & (curves["noise"] < 1)
    top1 = curves[counts].groupby(["optimizer", "lr"])["top1"].mean()
    # Sums of the same in another order are equal; the first of them is of the smallest rate.
    best = top1.round(9).groupby(level="optimizer").idxmax()
    return {optimizer: float(rate) for optimizer, rate in best}


def _tell(optimizer: str, best: float, curves: pd.DataFrame) -> None:
    tried = {float(rate): set(of_rate["noise"]) for rate, of_rate in curves.groupby("lr")}
    if any(levels != tried[best] for levels in tried.values()):
        found = "; ".join(f"{rate:g} at {' '.join(f'{x:g}' for x in sorted(tried[rate]))}" for rate in tried)
        do = "name runs of the same --noise"
        raise UserError(f"every rate of {optimizer} at the same noise levels", found, do)
    rates = " ".join(f"{rate:g}" for rate in tried)
    say(f"{optimizer}: learning rate {best:g}, of {rates}, by pristine accuracy")
    if len(tried) > 1 and best in (min(tried), max(tried)):
        end, other = ("smallest", "smaller") if best == min(tried) else ("largest", "larger")
        warn(f"{optimizer}: {best:g} is the {end} learning rate of those searched; try {other} ones")

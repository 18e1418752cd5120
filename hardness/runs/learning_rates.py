"""The learning rate of each optimizer, from runs of memorize that differ in it."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hardness import files
from hardness.console import say, warn
from hardness.errors import UserError
from hardness.runs.reading import finished_info


def searched_rates(runs: Sequence[Path], fingerprint: str, optimizers: Sequence[str]) -> dict[str, float]:
    """Optimizer -> the best learning rate in those finished runs of memorize; each is printed.

    Raises ``UserError`` for runs of another stage or data set, for an optimizer that none of them trained on
    pristine examples, and for one whose rates were tried at different noise levels.
    """
    tables = []
    for run in runs:
        info = finished_info(run, "memorize")
        if info["fingerprint"] != fingerprint:
            sentence = "{run}, named in --lr-from, is of data set {found}, not {expected}."
            values = {"run": str(run), "found": info["fingerprint"], "expected": fingerprint}
            raise UserError("lr-from-other-data", sentence, "Name runs of this data set.", **values)
        curves = files.read_table(run / "curves.parquet", fingerprint).to_pandas()
        # A run of an older version had one rate for all.
        config = info["config"]
        rates = info.get("learning_rates") or dict.fromkeys(config["optimizers"], config["lr"])
        tables.append(curves.assign(run=str(run), lr=curves["optimizer"].map(rates)))
    table = pd.concat(tables, ignore_index=True).query("noise < 1")
    best = best_rates(table)
    for optimizer in optimizers:
        if optimizer not in best:
            sentence = "No run of --lr-from trained {optimizer} on pristine examples."
            hint = "Name a run that did, with --noise below 1."
            raise UserError("lr-from-lacks-optimizer", sentence, hint, optimizer=optimizer)
        _describe(optimizer, best[optimizer], table[table["optimizer"] == optimizer])
    return {optimizer: best[optimizer] for optimizer in optimizers}


def best_rates(curves: pd.DataFrame) -> dict[str, float]:
    """Optimizer -> the learning rate with the best pristine accuracy; the smallest one of equals.

    curves: curves.parquet with columns run and lr. The accuracy is top-1 at a run's last epoch, averaged over
    seeds and noise levels. Noise 1 is left out: its few pristine labels are so by chance.
    """
    is_last = curves["epoch"] == curves.groupby("run")["epoch"].transform("max")
    counts = is_last & (curves["measured_on"] == "pristine") & (curves["noise"] < 1)
    top1 = curves[counts].groupby(["optimizer", "lr"])["top1"].mean()
    # Rounded, so that the order of a sum does not matter; idxmax takes the first, smallest rate.
    best = top1.round(9).groupby(level="optimizer").idxmax()
    return {optimizer: float(rate) for optimizer, rate in best}


def _describe(optimizer: str, best: float, curves: pd.DataFrame) -> None:
    tried = {float(rate): set(of_rate["noise"]) for rate, of_rate in curves.groupby("lr")}
    if any(levels != tried[best] for levels in tried.values()):
        found = "; ".join(f"{rate:g} at {' '.join(f'{x:g}' for x in sorted(tried[rate]))}" for rate in tried)
        sentence = "The learning rates of {optimizer} were tried at different noise levels: {found}."
        hint = "Name runs with the same --noise."
        raise UserError("lr-from-noise-differs", sentence, hint, optimizer=optimizer, found=found)
    rates = " ".join(f"{rate:g}" for rate in tried)
    say(f"{optimizer}: learning rate {best:g} (best pristine accuracy of {rates})")
    if len(tried) > 1 and best in (min(tried), max(tried)):
        end, other = ("smallest", "smaller") if best == min(tried) else ("largest", "larger")
        warn(f"{optimizer}: {best:g} is the {end} learning rate that was tried; try {other} ones")

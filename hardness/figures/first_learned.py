"""When examples are first learned: histogram and cumulative curve."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hardness.figures.style import draw_band, seeds_note, set_title
from hardness.statistics import summarize


def prepare(first_learned: dict[str, pd.Series], num_epochs: int) -> pd.DataFrame:
    """Seed -> (N,) first-learned epochs of the readable examples, null where never learned.

    Returns, for every seed and epoch (the last row, epoch 0, is "never"): seed, epoch, num_examples, share,
    cumulative share.
    """
    rows = []
    for seed, epochs in first_learned.items():
        counts = np.bincount(epochs.fillna(0).astype(int), minlength=num_epochs + 1)
        total = counts.sum()
        for epoch in [*range(1, num_epochs + 1), 0]:
            cumulative = counts[1 : epoch + 1].sum() / total if epoch else 1.0
            rows.append((seed, epoch, counts[epoch], counts[epoch] / total, cumulative))
    return pd.DataFrame(rows, columns=["seed", "epoch", "num_examples", "share", "cumulative_share"])


def draw(table: pd.DataFrame, title: str) -> Figure:
    """The table of ``prepare`` -> two panels: share of the examples by epoch, and learned so far."""
    figure = Figure(figsize=(8, 3.2))
    histogram, cumulative = figure.subplots(1, 2)
    summary = summarize(table, ["epoch"], ["share", "cumulative_share"])
    shares = summary[summary["value"] == "share"]
    num_epochs = int(table["epoch"].max())
    x = shares["epoch"].where(shares["epoch"] > 0, num_epochs + 1.5)
    has_interval = shares["low"].notna().all()
    histogram.bar(
        x,
        shares["mean"],
        color=["#0072B2"] * num_epochs + ["#D55E00"],
        yerr=(shares["high"] - shares["mean"]) if has_interval else None,
        error_kw={"elinewidth": 0.8},
    )
    step = max(1, num_epochs // 8)
    ticks = [*range(1, num_epochs + 1, step)]
    histogram.set_xticks([*ticks, num_epochs + 1.5], [*map(str, ticks), "never"])
    histogram.set(xlabel="first-learned epoch", ylabel="share of the examples")
    histogram.set_ylim(bottom=0)
    learned = summary[(summary["value"] == "cumulative_share") & (summary["epoch"] > 0)]
    draw_band(cumulative, learned["epoch"], learned, color="#0072B2", marker=".")
    cumulative.set(xlabel="epoch", ylabel="share learned at least once", ylim=(0, 1.02))
    cumulative.xaxis.get_major_locator().set_params(integer=True)
    set_title(figure, title, seeds_note(int(shares["num_seeds"].max()), "tracking seed"))
    return figure

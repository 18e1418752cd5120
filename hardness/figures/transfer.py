"""Top-1 accuracy at the last epoch for every training set and test set: a heat map."""

import pandas as pd
from matplotlib.figure import Figure

from hardness.figures.style import WIDTH, set_title
from hardness.findings.curves import last_epoch
from hardness.findings.generalization import pool_controls
from hardness.statistics import summarize
from hardness.subsets import SUBSETS

CAPTION = "Top-1 accuracy at the last epoch for each training set (rows) and each test set (columns)."

COLUMNS = (*SUBSETS, "validation", "train")


def prepare(curves: pd.DataFrame) -> pd.DataFrame:
    """Retraining curves with tracking_seed -> trained_on, measured_on, value, mean, low, high, num_seeds."""
    keys = ["trained_on", "measured_on"]
    last = pool_controls(last_epoch(curves))
    last = last.groupby([*keys, "tracking_seed"], as_index=False, sort=False)["top1"].mean()
    return summarize(last, keys, ["top1"])


def draw(table: pd.DataFrame, title: str) -> Figure:
    table = table.assign(half=table["high"] - table["mean"]).set_index(["trained_on", "measured_on"])
    means, halves = (table[name].unstack().loc[list(SUBSETS), list(COLUMNS)] for name in ("mean", "half"))
    figure = Figure(figsize=(WIDTH, 4.4))
    axes = figure.subplots()
    image = axes.imshow(means, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for row in range(len(SUBSETS)):
        for column in range(len(COLUMNS)):
            mean, half = means.iloc[row, column], halves.iloc[row, column]
            text = f"{mean:.2f}" if pd.isna(half) else f"{mean:.2f}\n±{half:.2f}"
            color = "white" if mean < 0.6 else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color=color)
    axes.set_xticks(range(len(COLUMNS)), [*SUBSETS, "validation", "own train fold"], rotation=20, ha="right")
    axes.set_yticks(range(len(SUBSETS)), SUBSETS)
    axes.set(xlabel="tested on (test fold of a subset, validation set, own train fold)", ylabel="trained on")
    axes.grid(False)
    figure.colorbar(image, label="top-1 accuracy at the last epoch")
    num_seeds = int(table["num_seeds"].max())
    several = f"±: 95 % Student t interval over {num_seeds} tracking seeds"
    set_title(figure, title, "one tracking seed" if num_seeds == 1 else several)
    return figure

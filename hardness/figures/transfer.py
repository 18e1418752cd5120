"""Top-1 accuracy at the last epoch for every training set and test set: a heat map."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hardness.figures.style import count_seeds, subplots, with_title
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
    table = table.assign(half=table["high"] - table["mean"])
    cells = table.pivot(index="trained_on", columns="measured_on", values=["mean", "half"]).loc[[*SUBSETS]]
    # A retraining by the user's own function has no validation set.
    columns = [name for name in COLUMNS if name in cells["mean"]]
    means, halves = (cells[name][columns] for name in ("mean", "half"))
    figure, axes = subplots(4.4)
    image = axes.imshow(means, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for (row, column), mean in np.ndenumerate(means):
        half = halves.iloc[row, column]
        text = f"{mean:.2f}" if pd.isna(half) else f"{mean:.2f}\n±{half:.2f}"
        color = "white" if mean < 0.6 else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=color)
    names = [name.replace("train", "own train fold") for name in columns]
    axes.set_xticks(range(len(columns)), names, rotation=20, ha="right")
    axes.set_yticks(range(len(SUBSETS)), SUBSETS)
    axes.set(xlabel="tested on (test fold of a subset, validation set, own train fold)", ylabel="trained on")
    axes.grid(False)
    figure.colorbar(image, label="top-1 accuracy at the last epoch")
    note = count_seeds(table["num_seeds"], "±: 95 % Student t interval over {}")
    return with_title(figure, title, note)

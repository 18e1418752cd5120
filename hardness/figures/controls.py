"""Easy and hard among their controls: accuracy on the subset's test fold, one dot per training set."""

import pandas as pd
from matplotlib.figure import Figure

from hardness.figures.style import SUBSET_COLORS, subplots, with_title
from hardness.findings.generalization import own_and_controls
from hardness.subsets import CONTROLS

CAPTION = (
    "Top-1 accuracy at the last epoch on the test folds of easy and of hard, trained on the subset itself "
    "and on each of its controls. The controls show the accuracy that chance gives."
)

_WIDTH = 0.5
"""Of the column of dots of one tracking seed; columns are 1 apart."""
prepare = own_and_controls


def draw(table: pd.DataFrame, title: str) -> Figure:
    seeds = list(table["tracking_seed"].unique())
    # The controls of a seed are drawn side by side, so that equal ones stay visible.
    column = table["tracking_seed"].map(seeds.index)
    number = table.groupby(["tracking_seed", "subset", "is_control"]).cumcount()
    size = table.groupby(["tracking_seed", "subset", "is_control"])["top1"].transform("size")
    table = table.assign(x=column + _WIDTH * ((number + 0.5) / size - 0.5))
    figure, panels = subplots(4, 1, len(CONTROLS), sharex=True, sharey=True)
    for axes, (name, control) in zip(panels, CONTROLS.items(), strict=True):
        shown = table[table["subset"] == name]
        others, own = shown[shown["is_control"]], shown[~shown["is_control"]]
        means = others.groupby("tracking_seed", sort=False)["top1"].mean()
        ends = [[seeds.index(seed) + side * _WIDTH / 2 for seed in means.index] for side in (-1, 1)]
        axes.hlines(means, *ends, color="#888888", linewidth=1, label="mean of the controls")
        dots = {"color": SUBSET_COLORS[control], "markersize": 3.5, "label": "control"}
        axes.plot(others["x"], others["top1"], "o", **dots)
        # Hollow: it hides no dot.
        mark = {"color": SUBSET_COLORS[name], "markersize": 8, "markerfacecolor": "none"}
        axes.plot(own["x"], own["top1"], "D", **mark, markeredgewidth=1.8, label=f"{name} subset")
        axes.set_title(f"tested on {name}")
        axes.set_xticks(range(len(seeds)), seeds)
        axes.set_xlim(-0.6, len(seeds) - 0.4)
        axes.set_xlabel("tracking seed")
        axes.grid(False, axis="x")
        axes.legend(loc="best")
    panels[0].set_ylabel("top-1 test accuracy at the last epoch")
    num_controls = int(size[table["is_control"]].max())
    return with_title(figure, title, f"{num_controls} controls of each subset per tracking seed")

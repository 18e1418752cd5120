"""The hardness verdicts of one or more groups of runs: test accuracies, and their differences."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from hardness.figures.style import SUBSET_COLORS, seeds_note, subplots, with_title, wrapped
from hardness.findings.generalization import Generalization

CAPTION = (
    "Left: top-1 accuracy at the last epoch on the test fold of a subset, for each training set. Right: "
    "differences of these accuracies. A control is a random set with the same number of examples of each "
    "class."
)

PANELS = {
    "test accuracy": {
        "easy->easy": ("easy", "easy → easy"),
        "easy-control->easy": ("easy-control", "easy-control → easy"),
        "hard-control->hard": ("hard-control", "hard-control → hard"),
        "hard->hard": ("hard", "hard → hard"),
        "random->random": ("random", "random → random"),
    },
    "difference in test accuracy": {
        "own-subset advantage of easy": ("easy", "own-subset advantage of easy: easy minus its control"),
        "own-subset advantage of hard": ("hard", "own-subset advantage of hard: hard minus its control"),
        "within-subset": ("random", "within-subset generalization: easy minus hard"),
    },
}
"""Panel -> {name of an estimate, from top to bottom: the subset whose color it has, its label}."""
_MARKERS = "osD"
_LETTERS = 34


def prepare(findings: dict[str, Generalization]) -> pd.DataFrame:
    """Group -> its estimates. Returns group, panel, quantity, mean, low, high, num_seeds."""
    rows = [
        {"group": group, "panel": panel, "quantity": quantity, **vars(estimates[quantity])}
        for group, estimates in ((group, found.estimates()) for group, found in findings.items())
        for panel, quantities in PANELS.items()
        for quantity in quantities
    ]
    return pd.DataFrame(rows).astype({"low": float, "high": float})


def draw(table: pd.DataFrame, title: str) -> Figure:
    groups = list(table["group"].unique())
    names = [wrapped(group, _LETTERS) for group in groups]
    # Each group is as high as the longest name.
    figure, panels = subplots(1.7 + max(1.2, 0.17 * max(map(len, names))) * len(groups), 1, 2, sharey=True)
    for axes, (panel, quantities), side in zip(panels, PANELS.items(), ("left", "right"), strict=True):
        axes.axvline(0, color="#555555", linewidth=0.8)
        step = 0.8 / len(quantities)
        for number, (quantity, (subset, label)) in enumerate(quantities.items()):
            rows = table[(table["panel"] == panel) & (table["quantity"] == quantity)]
            y = rows["group"].map(groups.index) - 0.4 + (number + 0.5) * step
            half = rows["high"] - rows["mean"]
            color = SUBSET_COLORS[subset]
            if side == "right":
                style = {"fmt": _MARKERS[number], "color": color, "markersize": 6, "elinewidth": 1.6}
                axes.errorbar(rows["mean"], y, xerr=half, label=label, **style)
            else:
                bars = axes.barh(y, rows["mean"], 0.9 * step, xerr=half, color=color, label=label)
                # Visible on a bar of any color.
                outline = withStroke(linewidth=3, foreground="white")
                bars.errorbar[2][0].set(linewidth=1.2, path_effects=[outline])
        axes.set_title(panel)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", left=False)
        handles = axes.get_legend_handles_labels()
        heading = {"ncols": 2, "title": "trained on → tested on"} if side == "left" else {}
        figure.legend(*handles, loc=f"outside lower {side}", **heading)
    labels = ["\n".join(lines) for lines in names]
    panels[0].set_yticks(range(len(groups)), labels, fontsize=8, parse_math=False)
    panels[0].set_ylim(len(groups) - 0.5, -0.5)
    panels[0].set(xlabel="top-1 test accuracy at the last epoch", ylabel="settings", xlim=(0, 1.02))
    panels[1].set_xlabel("difference in top-1 test accuracy")
    return with_title(figure, title, seeds_note(table["num_seeds"], "tracking seed"))

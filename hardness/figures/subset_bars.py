"""The verdicts at a glance, of one or more groups of runs: accuracies within subsets, and differences."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from hardness.figures.style import SUBSET_COLOURS, WIDTH, seeds_note, set_title, wrapped
from hardness.statistics import Estimate

PANELS = {
    "within-subset test accuracy": {
        "easy->easy": "easy",
        "easy-control->easy": "easy-control",
        "hard-control->hard": "hard-control",
        "hard->hard": "hard",
        "random->random": "random",
    },
    "own-subset advantage, within-subset difference": {
        "own-subset advantage of easy": "easy",
        "own-subset advantage of hard": "hard",
        "within-subset": "random",
    },
}
"""Panel -> {quantity, from top to bottom: the subset whose colour it has}."""
_LABELS = {
    "own-subset advantage of easy": "easy minus its control",
    "own-subset advantage of hard": "hard minus its control",
    "within-subset": "easy minus hard",
}
_MARKERS = "osD"
_LETTERS = 34


def prepare(verdicts: dict[str, dict[str, Estimate]]) -> pd.DataFrame:
    """Group -> its ``hardness_verdicts``. Returns group, panel, quantity, mean, low, high, num_seeds."""
    rows = [
        {"group": group, "panel": panel, "quantity": quantity, **vars(estimates[quantity])}
        for group, estimates in verdicts.items()
        for panel, quantities in PANELS.items()
        for quantity in quantities
    ]
    return pd.DataFrame(rows).astype({"low": float, "high": float})


def draw(table: pd.DataFrame, title: str) -> Figure:
    groups = list(table["group"].unique())
    names = [wrapped(group, _LETTERS) for group in groups]
    # As much room for each as the longest name needs.
    figure = Figure(figsize=(WIDTH, 1.7 + max(1.2, 0.17 * max(map(len, names))) * len(groups)))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (panel, quantities), side in zip(panels, PANELS.items(), ("left", "right"), strict=True):
        axes.axvline(0, color="#555555", linewidth=0.8)
        step = 0.8 / len(quantities)
        for number, (quantity, subset) in enumerate(quantities.items()):
            rows = table[(table["panel"] == panel) & (table["quantity"] == quantity)]
            y = rows["group"].map(groups.index) - 0.4 + (number + 0.5) * step
            half = rows["high"] - rows["mean"]
            colour, label = SUBSET_COLOURS[subset], _LABELS.get(quantity, quantity)
            if side == "right":
                style = {"fmt": _MARKERS[number], "color": colour, "markersize": 6, "elinewidth": 1.6}
                axes.errorbar(rows["mean"], y, xerr=half, label=label, **style)
            else:
                bars = axes.barh(y, rows["mean"], 0.9 * step, xerr=half, color=colour, label=label)
                # Seen on a bar of any colour, black too.
                bars.errorbar[2][0].set(
                    linewidth=1.2, path_effects=[withStroke(linewidth=3, foreground="white")]
                )
        axes.set_title(panel)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", left=False)
        handles = axes.get_legend_handles_labels()
        figure.legend(*handles, loc=f"outside lower {side}", ncols=3 if side == "left" else 2)
    panels[0].set_yticks(
        range(len(groups)), ["\n".join(lines) for lines in names], fontsize=8, parse_math=False
    )
    panels[0].set_ylim(len(groups) - 0.5, -0.5)
    panels[0].set(xlabel="top-1 at the last epoch (share correct)", ylabel="runs", xlim=(0, 1.02))
    panels[1].set_xlabel("difference of two of these")
    set_title(figure, title, seeds_note(table["num_seeds"], "tracking seed"))
    return figure

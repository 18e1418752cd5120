"""Retraining curves of subsets and controls: own train fold, own test fold, the test fold of easy or hard."""

import pandas as pd
from matplotlib.figure import Figure

from hardness.figures.style import SUBSET_COLORS, draw_band, seeds_note, subplots, with_title
from hardness.findings.generalization import pool_controls
from hardness.statistics import summarize
from hardness.subsets import CONTROLS

CAPTION = (
    "Accuracy and loss during retraining, on the subset's own train fold (left), on its own test fold "
    "(middle), and on the test fold of easy or hard, for the subset and its control (right)."
)

PANELS = {
    "own train fold": dict.fromkeys(SUBSET_COLORS, "train"),
    "own test fold": {name: name for name in SUBSET_COLORS},
    "test fold of easy or hard": {
        **{name: name for name in CONTROLS},
        **{control: name for name, control in CONTROLS.items()},
    },
}
"""Panel -> {trained on: measured on}."""
_LABELS = {"top1": "top-1 accuracy", "loss": "cross-entropy (nats)"}


def prepare(curves: pd.DataFrame) -> pd.DataFrame:
    """Retraining curves with tracking_seed -> panel, trained_on, measured_on, epoch, value, mean, low, high.

    Retraining seeds and a subset's controls are averaged within a tracking seed first; intervals are over
    tracking seeds.
    """
    keys = ["trained_on", "measured_on", "epoch", "tracking_seed"]
    means = pool_controls(curves).groupby(keys, as_index=False, sort=False)[["loss", "top1"]].mean()
    parts = []
    for panel, pairs in PANELS.items():
        shown = means[means["trained_on"].map(pairs) == means["measured_on"]]
        parts.append(summarize(shown, keys[:-1], ["top1", "loss"]).assign(panel=panel))
    return pd.concat(parts, ignore_index=True)


def draw(table: pd.DataFrame, title: str) -> Figure:
    figure, grid = subplots(5.6, len(_LABELS), len(PANELS), sharex=True, sharey="row")
    for row, (value, label) in zip(grid, _LABELS.items(), strict=True):
        row[0].set_ylabel(label)
        for axes, panel in zip(row, PANELS, strict=True):
            shown = table[(table["panel"] == panel) & (table["value"] == value)]
            for name, color in SUBSET_COLORS.items():
                line = shown[shown["trained_on"] == name].sort_values("epoch")
                dash = "--" if name in CONTROLS.values() else ":" if name == "random" else "-"
                if len(line):
                    draw_band(axes, line["epoch"], line, color=color, linestyle=dash, label=name)
            if value == "top1":
                axes.set_title(panel)
            else:
                axes.set_xlabel("epoch (0: before training)")
                axes.xaxis.get_major_locator().set_params(integer=True)
        # After all lines of the row are drawn: a limit ends the automatic scaling.
        row[0].set_ylim(0, 1.02 if value == "top1" else None)
    handles = grid[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=5, title="trained on")
    return with_title(figure, title, seeds_note(table["num_seeds"], "tracking seed"))

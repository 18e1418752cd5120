"""Training under label noise: pristine and corrupt examples, training and validation set, per noise level."""

import pandas as pd
from matplotlib.figure import Figure

from hardness.figures.style import draw_band, legend_lines, optimizer_legend, seeds_note, subplots, with_title
from hardness.statistics import summarize

CAPTION = (
    "Accuracy and loss by epoch: pristine and corrupt examples (given labels), and training examples "
    "(given labels) and the validation set (clean labels)."
)

ROWS = (
    ("top1", {"pristine": "-", "corrupt": "--"}),
    ("top1", {"train": "-", "validation": "--"}),
    ("loss", {"pristine": "-", "corrupt": "--"}),
    ("loss", {"train": "-", "validation": "--"}),
)
_LABELS = {"top1": "top-1 accuracy", "loss": "cross-entropy (nats)"}


def prepare(curves: pd.DataFrame) -> pd.DataFrame:
    """Memorization curves -> optimizer, noise, measured_on, epoch, value, mean, low, high, num_seeds."""
    return summarize(curves, ["noise", "optimizer", "measured_on", "epoch"], ["top1", "loss"])


def draw(table: pd.DataFrame, title: str) -> Figure:
    levels = sorted(table["noise"].unique())
    if len(levels) == 1:
        figure, grid = subplots(6.4, 2, 2, sharex=True, sharey="row")
        grid = grid.reshape(len(ROWS), 1)
    else:
        figure, grid = subplots(10, len(ROWS), len(levels), sharex=True, sharey="row")
    colors = optimizer_legend(figure, table)
    for axes_row, (value, dashes) in zip(grid, ROWS, strict=True):
        axes_row[0].set_ylabel(_LABELS[value])
        for axes, noise in zip(axes_row, levels, strict=True):
            panel = table[(table["noise"] == noise) & (table["value"] == value)]
            for (optimizer, measured_on), line in panel.groupby(["optimizer", "measured_on"], sort=False):
                if dash := dashes.get(measured_on):
                    draw_band(axes, line["epoch"], line, color=colors[optimizer], linestyle=dash)
        axes_row[-1].legend(handles=legend_lines(dashes), loc="best")
    for axes in grid.flat:
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.get_subplotspec().is_last_row():
            axes.set_xlabel("epoch (0: before training)")
    for axes, noise in zip(grid[:2].flat if len(levels) == 1 else grid[0], levels * 2, strict=False):
        axes.set_title(f"label noise {noise:g}")
    # After all lines are drawn: a limit ends the automatic scaling.
    for axes_row, (value, _) in zip(grid, ROWS, strict=True):
        axes_row[0].set_ylim(0, 1.02 if value == "top1" else None)
    return with_title(figure, title, seeds_note(table["num_seeds"]))

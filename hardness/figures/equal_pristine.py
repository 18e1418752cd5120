"""Accuracy on corrupt examples at equal accuracy on pristine ones: which optimizer memorizes more?"""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from hardness.figures.style import draw_band, optimizer_legend, seeds_note, subplots, with_title
from hardness.findings.memorization import EqualPristine
from hardness.statistics import summarize

CAPTION = (
    "Accuracy on corrupt examples (vertical) at the epoch at which accuracy on pristine examples first "
    "reaches a level (horizontal). This separates less memorization from slower training."
)


def prepare(levels: Sequence[EqualPristine]) -> pd.DataFrame:
    """One reading per noise level. Returns noise, optimizer, pristine, value, mean, low, high, num_seeds.

    ``value``: corrupt (accuracy against the given labels) or corrupt-clean (against the clean ones).
    """
    rows = pd.concat([reading.table.assign(noise=reading.noise) for reading in levels])
    return summarize(rows, ["noise", "optimizer", "pristine"], ["corrupt", "corrupt-clean"])


def draw(table: pd.DataFrame, title: str) -> Figure:
    levels = sorted(table["noise"].unique())
    figure, grid = subplots(0.9 + 3.5 * len(levels), len(levels), 2, squeeze=False, sharex="row")
    colors = optimizer_legend(figure, table)
    names = {"corrupt": "given (wrong) labels", "corrupt-clean": "clean labels"}
    for axes_row, noise in zip(grid, levels, strict=True):
        for axes, (value, against) in zip(axes_row, names.items(), strict=True):
            panel = table[(table["noise"] == noise) & (table["value"] == value)]
            for optimizer, line in panel.groupby("optimizer", sort=False):
                draw_band(axes, line["pristine"], line, color=colors[optimizer])
            axes.set_title(f"label noise {noise:g}, {against}")
            axes.set_xlabel("top-1 accuracy on pristine examples")
            axes.set_ylabel("top-1 accuracy on corrupt examples")
            # Intervals may exceed 1; accuracies do not.
            axes.set_ylim(0, min(1.02, axes.get_ylim()[1]))
    return with_title(figure, title, seeds_note(table["num_seeds"]))

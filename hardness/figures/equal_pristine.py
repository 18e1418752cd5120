"""Corrupt against pristine accuracy: who memorizes more at equal progress on the right labels."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hardness.figures.style import WIDTH, draw_band, optimizer_colours, seeds_note, set_title
from hardness.statistics import summarize
from hardness.verdicts import EqualPristine


def prepare(levels: dict[float, EqualPristine]) -> pd.DataFrame:
    """Noise -> readings. Returns noise, optimizer, pristine, value, mean, low, high, num_seeds.

    ``value``: corrupt (accuracy against the given labels) or corrupt-clean (against the clean ones).
    """
    rows = [
        {"noise": noise, "optimizer": optimizer, "pristine": p, "corrupt": given, "corrupt-clean": clean}
        for noise, across in levels.items()
        for (optimizer, seed), corrupt in across.corrupt.items()
        for p, given, clean in zip(across.grid, corrupt, across.corrupt_clean[optimizer, seed], strict=True)
    ]
    return summarize(pd.DataFrame(rows), ["noise", "optimizer", "pristine"], ["corrupt", "corrupt-clean"])


def draw(table: pd.DataFrame, title: str) -> Figure:
    levels = sorted(table["noise"].unique())
    colours = optimizer_colours(list(table["optimizer"].unique()))
    figure = Figure(figsize=(WIDTH, 0.9 + 3.5 * len(levels)))
    grid = figure.subplots(len(levels), 2, squeeze=False, sharex="row")
    names = {"corrupt": "their given (wrong) labels", "corrupt-clean": "their clean labels"}
    for axes_row, noise in zip(grid, levels, strict=True):
        for axes, (value, against) in zip(axes_row, names.items(), strict=True):
            panel = table[(table["noise"] == noise) & (table["value"] == value)]
            for optimizer, line in panel.groupby("optimizer", sort=False):
                draw_band(axes, line["pristine"], line, color=colours[optimizer])
            axes.set(
                title=f"label noise {noise:g}: against {against}",
                xlabel="pristine accuracy (share correct), first reached",
                ylabel="accuracy on corrupt examples",
            )
            axes.set_ylim(bottom=0)
    # A level may have optimizers that another has not.
    handles = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), title="optimizer")
    set_title(figure, title, seeds_note(table["num_seeds"]))
    return figure

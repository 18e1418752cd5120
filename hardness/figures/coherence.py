"""Gradient coherence of groups of examples, over training and at equal mean loss."""

import pandas as pd
from matplotlib.figure import Figure

from hardness.figures.style import SUBSET_COLORS, draw_band, seeds_note, subplots, with_title
from hardness.findings.coherence import equal_loss
from hardness.statistics import summarize
from hardness.subsets import CONTROLS

CAPTION = (
    "Coherence: the mean inner product of the gradients of two examples divided by their mean squared "
    "norm (the form of m-coherence that does not depend on m), by epoch (left) and by the group's mean "
    "loss (right). Gradients shrink when examples are fitted, so groups are compared at equal loss."
)

COLORS = {**SUBSET_COLORS, "pristine": "#0072B2", "corrupt": "#E69F00", "train": "#999999"}
_AXES = {"epoch": "epoch (0: before training)", "mean_loss": "mean loss of the group (nats)"}


def prepare(table: pd.DataFrame) -> pd.DataFrame:
    """measured_on, seed, epoch, mean_loss, coherence of the whole network -> the table to draw.

    Returns measured_on, against (epoch or mean_loss), x, value, mean, low, high, num_seeds.
    """
    parts = [table.assign(against="epoch", x=table["epoch"])]
    if (equal := equal_loss(table)) is not None:
        for (group, _), values in equal.items():
            part = {"measured_on": group, "against": "mean_loss", "x": equal.index, "coherence": values}
            parts.append(pd.DataFrame(part))
    return summarize(pd.concat(parts), ["against", "measured_on", "x"], ["coherence"])


def draw(table: pd.DataFrame, title: str) -> Figure:
    figure, panels = subplots(4, 1, 2, sharey=True)
    for axes, (against, label) in zip(panels, _AXES.items(), strict=True):
        shown = table[table["against"] == against]
        for name, color in COLORS.items():
            line = shown[shown["measured_on"] == name].sort_values("x")
            dash = "--" if name in CONTROLS.values() else ":" if name in ("random", "train") else "-"
            if len(line):
                draw_band(axes, line["x"], line, color=color, linestyle=dash, label=name)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set(xlabel=label)
        if not len(shown):
            axes.text(0.5, 0.5, "no common loss", ha="center", transform=axes.transAxes)
    # Wide intervals of few seeds may be cut off; lines may not.
    low, high = table["mean"].min(), table["mean"].max()
    panels[0].set_ylim(min(low, 0) - 0.3 * (high - low), high + 0.3 * (high - low))
    panels[0].set_ylabel("coherence (0: orthogonal gradients, 1: identical)")
    panels[0].xaxis.get_major_locator().set_params(integer=True)
    # Loss decreases in the direction of training.
    panels[1].invert_xaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return with_title(figure, title, seeds_note(table["num_seeds"], "tracking seed"))

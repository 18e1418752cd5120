"""How networks learn, epoch by epoch: one or more groups of runs in the same axes."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hardness.figures.fonts import drawable
from hardness.figures.style import GROUP_COLORS, draw_band, legend_lines, seeds_note, subplots, with_title
from hardness.statistics import summarize

CAPTION = (
    "Learning curves: fraction of training examples that were correct in at least one epoch (solid) and in "
    "this epoch (dashed), accuracy on the validation set, and loss."
)

PANELS = {
    "fraction of training examples": {"learned": "-", "record_top1": "--"},
    "top-1 accuracy": {"validation_top1": "-"},
    "cross-entropy (nats)": {"record_loss": "-", "validation_loss": ":"},
}
"""Label of the axis -> {column of log.jsonl: dash}."""
_NAMES = {
    "learned": "learned at least once",
    "record_top1": "correct in this epoch",
    "validation_top1": "validation set",
    "record_loss": "training examples, given labels",
    "validation_loss": "validation set",
}


def prepare(logs: dict[str, dict[str, pd.DataFrame]]) -> pd.DataFrame:
    """Group -> seed -> log.jsonl, one row per epoch -> group, epoch, value, mean, low, high, num_seeds."""
    tables = [log.assign(group=group) for group, by_seed in logs.items() for log in by_seed.values()]
    table = pd.concat(tables)
    return summarize(table, ["group", "epoch"], [name for name in _NAMES if name in table])


def draw(table: pd.DataFrame, title: str) -> Figure:
    groups = list(table["group"].unique())
    colors = {name: GROUP_COLORS[index % len(GROUP_COLORS)] for index, name in enumerate(groups)}
    known = set(table["value"])
    shown = {label: dashes for label, dashes in PANELS.items() if known & dashes.keys()}
    figure, panels = subplots(3.4 + 0.2 * len(groups), 1, len(shown))
    for axes, (label, dashes) in zip(panels, shown.items(), strict=True):
        for (group, value), line in table.groupby(["group", "value"], sort=False):
            if dash := dashes.get(value):
                draw_band(axes, line["epoch"], line, color=colors[group], linestyle=dash)
        axes.set(xlabel="epoch", ylabel=label)
        axes.set_ylim(0, 1.02 if "nats" not in label else None)
        axes.xaxis.get_major_locator().set_params(integer=True)
        handles = legend_lines({_NAMES[value]: dash for value, dash in dashes.items() if value in known})
        axes.legend(handles=handles, loc="best")
    if len(groups) > 1:
        handles = [Line2D([], [], color=color) for color in colors.values()]
        legend = figure.legend(handles, map(drawable, groups), loc="outside lower center")
        for text in legend.get_texts():
            text.set_parse_math(False)
    return with_title(figure, title, seeds_note(table["num_seeds"], "tracking seed"))

"""Do scores agree with each other, and with themselves in another run? A heat map and dots."""

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hardness.figures.style import subplots, with_title
from hardness.findings.agreement import kinds_of_difference, over_pairs

CAPTION = (
    "Spearman's rank correlation over all examples and within classes: of two scores of one run and, if "
    "there are several runs, of the same score in two runs (right). Scores that only reflect which classes "
    "are hard do not agree within classes."
)

_COLORS = ("#0072B2", "#D55E00", "#009E73")
"""Of the kinds of pairs that are drawn: those whose runs differ in the fewest settings."""
_SCOPES = {"plain": "all examples", "within-class": "within classes"}
prepare = over_pairs
"""One row per cell or dot."""


def draw(table: pd.DataFrame, title: str) -> Figure:
    matrix = table[table["kind"] == "scores"]
    names = list(dict.fromkeys([*matrix["score_a"], *matrix["score_b"]]))
    kinds = kinds_of_difference(table)[: len(_COLORS)]
    height = 2.2 + (0.28 + 0.06 * len(kinds)) * len(names)
    num_runs, num_examples = matrix["num_pairs"].max(), table["num_examples"].max()
    if kinds:
        figure, (left, right) = subplots(height, 1, 2, sharey=True, width_ratios=(7, 3))
        _draw_runs(right, table[table["kind"] == "runs"], names, kinds)
        note = f"left: mean over {num_runs} runs; right: mean over pairs of runs, with the range as a line"
    else:
        figure, left = subplots(height)
        note = "one run"
    _draw_matrix(left, matrix, names)
    if matrix["num_constant"].any():
        note += "; – or no dot: constant score"
    return with_title(figure, title, f"{note}; {num_examples:,} examples")


def _draw_matrix(axes: Axes, pairs: pd.DataFrame, names: list[str]) -> None:
    values = np.full((len(names), len(names)), np.nan)
    for pair in pairs.itertuples():
        a, b = names.index(pair.score_a), names.index(pair.score_b)
        values[(a, b) if pair.scope == "plain" else (b, a)] = pair.spearman
    axes.set_facecolor("#DDDDDD")
    axes.imshow(values, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if row != column:
            # Without the zero before the point the text is large enough to read; and never -0.
            text = "–" if np.isnan(value) else f"{round(value, 2) + 0:.2f}".replace("0.", ".", 1)
            color = "white" if abs(value) > 0.7 else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.grid(False)
    axes.set(xlabel="score", ylabel="score")
    axes.set_title(
        "Spearman's rank correlation of two scores of one run\n"
        "above the diagonal: all examples; below: within classes"
    )


def _draw_runs(axes: Axes, pairs: pd.DataFrame, names: list[str], kinds: list[str]) -> None:
    lines = list(itertools.product(zip(kinds, _COLORS, strict=False), ("plain", "within-class")))
    step = 0.8 / len(lines)
    for row in range(0, len(names), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#F2F2F2", zorder=0)
    for number, ((differs, color), scope) in enumerate(lines):
        shown = pairs[(pairs["differs"] == differs) & (pairs["scope"] == scope)]
        y = shown["score_a"].map(names.index) - 0.4 + (number + 0.5) * step
        axes.hlines(y, shown["least"], shown["most"], color=color, linewidth=1.2)
        dots = {"color": color, "markersize": 4, "markerfacecolor": color if scope == "plain" else "white"}
        axes.plot(shown["spearman"], y, "o", **dots, label=f"{differs}, {_SCOPES[scope]}")
    counts = pairs[pairs["differs"].isin(kinds)].groupby("score_a", sort=False)["spearman"].count()
    for name in counts.index[counts == 0]:
        axes.text(0.01, names.index(name), "constant", va="center", fontsize=8)
    axes.axvline(0, color="#555555", linewidth=0.8)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", left=False)
    axes.set_xlim(right=1.02)
    axes.set(title="the same score in two runs", xlabel="rank correlation (0: chance)")
    axes.figure.legend(title="two runs that differ in", loc="outside lower center", ncols=max(2, len(kinds)))

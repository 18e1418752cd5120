"""Which scores detect wrong labels? Average precision, AUROC, and precision-recall curves of the best."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hardness.figures.style import seeds_note, subplots, with_title
from hardness.findings.label_errors import precision_recall
from hardness.statistics import summarize

CAPTION = (
    "How well each score ranks corrupt labels before pristine ones (left), and precision-recall curves of "
    "the best scores (right)."
)

_RECALL = np.linspace(0.01, 1, 100)
_CURVES = 5
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)))


def prepare(judged: pd.DataFrame, runs: dict[str, tuple[pd.DataFrame, np.ndarray]]) -> pd.DataFrame:
    """The results of ``detection`` on each run; seed -> (scores, is_corrupt (N,)) -> the table to draw.

    Returns score, value, recall, mean, low, high, num_seeds.
    value: auroc, average_precision, share_corrupt (the precision of chance), or for the five scores of the
    largest average precision, precision at each recall.
    """
    judged = judged.assign(share_corrupt=judged["num_corrupt"] / judged["num_examples"])
    found = summarize(judged, ["score"], ["auroc", "average_precision", "share_corrupt"])
    precision = found[found["value"] == "average_precision"].sort_values("mean", ascending=False)
    curves = []
    for name in precision["score"].head(_CURVES):
        for scores, is_corrupt in runs.values():
            curve = precision_recall(scores, name, is_corrupt)
            values = np.interp(_RECALL, curve["recall"], curve["precision"])
            curves.append(pd.DataFrame({"score": name, "recall": _RECALL, "precision": values}))
    curves = summarize(pd.concat(curves), ["score", "recall"], ["precision"])
    return pd.concat([found, curves], ignore_index=True)


def draw(table: pd.DataFrame, title: str) -> Figure:
    order = table[table["value"] == "average_precision"].sort_values("mean")["score"].tolist()
    figure, (dots, curves) = subplots(1.4 + 0.24 * max(len(order), 10), 1, 2)
    for value, color, marker in (("average_precision", "#0072B2", "o"), ("auroc", "#D55E00", "s")):
        rows = table[table["value"] == value].set_index("score").loc[order]
        half = rows["high"] - rows["mean"] if rows["low"].notna().all() else None
        style = {"fmt": marker, "color": color, "markersize": 4, "elinewidth": 0.8}
        label = value.replace("_", " ").replace("auroc", "AUROC")
        dots.errorbar(rows["mean"], range(len(order)), xerr=half, **style, label=label)
    chance = table.loc[table["value"] == "share_corrupt", "mean"].mean()
    for at, color in ((chance, "#0072B2"), (0.5, "#D55E00")):
        dots.axvline(at, color=color, linewidth=0.8, linestyle=":")
    dots.set_yticks(range(len(order)), order)
    dots.set(xlabel="average precision, AUROC (dotted: chance)", ylabel="score", xlim=(0, 1.02))
    dots.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    shown = table[table["value"] == "precision"]
    for index, (name, line) in enumerate(shown.groupby("score", sort=False)):
        style = {"color": _COLORS[index], "linestyle": _DASHES[index]}
        # No bands: five overlapping ones hide the lines.
        curves.plot(line["recall"], line["mean"], label=name, **style)
    curves.axhline(chance, color="black", linewidth=0.8, linestyle=":")
    curves.set(xlabel="recall of the corrupt labels", ylabel="precision", ylim=(0, 1.02))
    curves.legend(loc="lower left")
    return with_title(figure, title, seeds_note(table["num_seeds"], "tracking seed"))

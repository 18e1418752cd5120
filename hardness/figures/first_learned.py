"""When examples are first learned: histogram and cumulative curve."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hardness.figures.style import draw_band, draw_histogram, epoch_ticks, seeds_note, subplots, with_title
from hardness.statistics import summarize

CAPTION = (
    "First-learned epoch: histogram (left), and fraction of examples learned at least once by each epoch "
    "(right)."
)


def prepare(first_learned: dict[str, pd.Series], num_epochs: int) -> pd.DataFrame:
    """Seed -> (N,) first-learned epochs of the readable examples, null where never learned.

    Returns epoch (the last one, 0, is "never"), value, mean, low, high, num_seeds.
    value: share (of the examples), cumulative_share.
    """
    parts = []
    for epochs in first_learned.values():
        counts = np.bincount(epochs.fillna(0).astype(int), minlength=num_epochs + 1)
        share = np.roll(counts, -1) / len(epochs)
        epoch = [*range(1, num_epochs + 1), 0]
        parts.append(pd.DataFrame({"epoch": epoch, "share": share, "cumulative_share": share.cumsum()}))
    return summarize(pd.concat(parts), ["epoch"], ["share", "cumulative_share"])


def draw(table: pd.DataFrame, title: str) -> Figure:
    figure, (histogram, cumulative) = subplots(3.8, 1, 2)
    shares = table[table["value"] == "share"]
    num_epochs = int(table["epoch"].max())
    never = num_epochs + 1.5
    x = shares["epoch"].where(shares["epoch"] > 0, never)
    draw_histogram(histogram, x, shares, "first-learned epoch")
    ticks = epoch_ticks(num_epochs)
    histogram.set_xticks([*ticks, never], [*map(str, ticks), "never"])
    learned = table[(table["value"] == "cumulative_share") & (table["epoch"] > 0)]
    draw_band(cumulative, learned["epoch"], learned, color="#0072B2", marker=".")
    cumulative.set(xlabel="epoch", ylabel="fraction learned at least once", ylim=(0, 1.02))
    cumulative.xaxis.get_major_locator().set_params(integer=True)
    return with_title(figure, title, seeds_note(table["num_seeds"], "tracking seed"))

"""How often examples are forgotten, those learned late more often? (Toneva et al. 2019, arXiv:1812.05159)"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hardness.figures.style import NEVER_COLOUR, WIDTH, draw_band, seeds_note, set_title
from hardness.statistics import summarize

_CAP = 10


def prepare(scores: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Seed -> scores with first_learned_epoch, forgetting_events, mean_loss (null: unreadable, left out).

    Returns against, x, value, mean, low, high, num_seeds. Against forgetting_events, x is 0, 1, ..., "10+",
    "never learned", and value the share of the examples; against first_learned_epoch, x is an epoch in which
    some were learned, and value their mean forgetting_events.
    """
    shares, means = [], []
    for table in scores.values():
        table = table[table["mean_loss"].notna()]
        learned = table[table["first_learned_epoch"].notna()]
        events = learned["forgetting_events"].to_numpy(np.int64)
        epochs = learned["first_learned_epoch"].to_numpy(np.int64)
        counts = [*np.bincount(events.clip(max=_CAP), minlength=_CAP + 1), len(table) - len(learned)]
        names = [*map(str, range(_CAP)), f"{_CAP}+", "never learned"]
        shares.append(pd.DataFrame({"x": names, "share": np.array(counts) / len(table)}))
        found, of_epoch, num_examples = np.unique(epochs, return_inverse=True, return_counts=True)
        forgotten = np.bincount(of_epoch, events) / num_examples
        means.append(pd.DataFrame({"x": found, "mean_forgetting_events": forgotten}))
    parts = [
        summarize(pd.concat(shares), ["x"], ["share"]).assign(against="forgetting_events"),
        summarize(pd.concat(means), ["x"], ["mean_forgetting_events"])
        .sort_values("x")
        .assign(against="first_learned_epoch"),
    ]
    table = pd.concat(parts, ignore_index=True)
    return table[["against", *table.columns.drop("against")]]


def draw(table: pd.DataFrame, title: str) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.8))
    histogram, by_epoch = figure.subplots(1, 2)
    shares = table[table["against"] == "forgetting_events"]
    x = [*range(_CAP + 1), _CAP + 2.5]
    histogram.bar(
        x,
        shares["mean"],
        color=["#0072B2"] * (_CAP + 1) + [NEVER_COLOUR],
        yerr=shares["high"] - shares["mean"],
        error_kw={"elinewidth": 0.8},
    )
    histogram.set_xticks(x, shares["x"])
    histogram.set(xlabel="forgetting events", ylabel="share of the examples")
    histogram.set_ylim(bottom=0)
    means = table[table["against"] == "first_learned_epoch"]
    draw_band(by_epoch, means["x"].astype(int), means, color="#0072B2", marker=".")
    by_epoch.set(
        xlabel="first-learned epoch (the later, the fewer are left to forget in)",
        ylabel="forgetting events (mean of the examples)",
    )
    # Wide intervals of few examples may leave the page; the line may not.
    by_epoch.set_ylim(0, 1.5 * means["mean"].max() or 1)
    by_epoch.xaxis.get_major_locator().set_params(integer=True)
    set_title(figure, title, seeds_note(int(table["num_seeds"].max()), "tracking seed"))
    return figure

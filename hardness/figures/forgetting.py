"""How often are examples forgotten, and are late-learned ones forgotten more often?

Toneva et al. 2019, arXiv:1812.05159.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hardness.figures.style import WIDTH, draw_band, draw_histogram, seeds_note, set_title
from hardness.statistics import summarize

CAPTION = (
    "Forgetting events (correct in one record, wrong in the next): histogram (left), and mean number by "
    "first-learned epoch (right). Late-learned examples have fewer epochs left to be forgotten in."
)

_CAP = 10
_VALUES = {"forgetting_events": "share", "first_learned_epoch": "mean_forgetting_events"}


def prepare(scores: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Seed -> scores with first_learned_epoch, forgetting_events, mean_loss (null: unreadable, left out).

    Returns against, x, value, mean, low, high, num_seeds. Against forgetting_events, x is 0, 1, ..., "10+",
    "never learned", and value the fraction of examples; against first_learned_epoch, x is an epoch in which
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
        shares.append(pd.DataFrame({"x": names, "value": np.array(counts) / len(table)}))
        found, of_epoch, num_examples = np.unique(epochs, return_inverse=True, return_counts=True)
        means.append(pd.DataFrame({"x": found, "value": np.bincount(of_epoch, events) / num_examples}))
    parts = {"forgetting_events": pd.concat(shares), "first_learned_epoch": pd.concat(means).sort_values("x")}
    rows = pd.concat([part.assign(against=against) for against, part in parts.items()])
    table = summarize(rows, ["against", "x"], ["value"])
    return table.assign(value=table["against"].map(_VALUES))


def draw(table: pd.DataFrame, title: str) -> Figure:
    figure = Figure(figsize=(WIDTH, 3.8))
    histogram, by_epoch = figure.subplots(1, 2)
    shares = table[table["against"] == "forgetting_events"]
    x = [*range(_CAP + 1), _CAP + 2.5]
    draw_histogram(histogram, x, shares)
    histogram.set_xticks(x, shares["x"].str.replace(" ", "\n"))
    histogram.set_xlabel("forgetting events")
    means = table[table["against"] == "first_learned_epoch"]
    draw_band(by_epoch, means["x"].astype(int), means, color="#0072B2", marker=".")
    by_epoch.set(xlabel="first-learned epoch", ylabel="mean number of forgetting events")
    # Wide intervals of few examples may be cut off; the line may not.
    by_epoch.set_ylim(0, 1.5 * max(means["mean"], default=0) or 1)
    by_epoch.xaxis.get_major_locator().set_params(integer=True)
    set_title(figure, title, seeds_note(table["num_seeds"], "tracking seed"))
    return figure

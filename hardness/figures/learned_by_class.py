"""Which classes are learned first? The fraction of each class that was learned at least once, by epoch."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hardness.figures.style import count_seeds, subplots, with_title, wrapped

CAPTION = (
    "Fraction of each class learned at least once by each epoch: mean, quartiles and range over classes, "
    "and the classes that are learned first and last."
)

_FIRST = ("#009E73", "#0072B2", "#56B4E9")
_LAST = ("#CC79A7", "#E69F00", "#D55E00")
_DASHES = ("-", "--", ":")
_LETTERS = 24


def prepare(
    first_learned: dict[str, pd.Series],
    given_labels: dict[str, np.ndarray],
    class_names: list[str],
    num_epochs: int,
) -> pd.DataFrame:
    """Seed -> (N,) first-learned epochs of the readable examples, null: never learned; their (N,) labels.

    Returns one row per non-empty class and epoch: class_name, epoch (1..num_epochs), cumulative_share
    (of the class's examples; mean over the seeds), num_examples (over all seeds), place (1: learned first,
    by the mean of cumulative_share over epochs; ties in the order of classes), num_seeds.
    """
    num_classes = len(class_names)
    counts = np.empty((len(first_learned), num_classes, num_epochs + 1))
    for count, (seed, epochs) in zip(counts, first_learned.items(), strict=True):
        cells = given_labels[seed].astype(np.int64) * (num_epochs + 1) + epochs.fillna(0).to_numpy(np.int64)
        count[:] = np.bincount(cells, minlength=count.size).reshape(count.shape)
    sizes = counts.sum(2)
    # With label noise, a class may have no example in one seed.
    (present,) = sizes.any(0).nonzero()
    with np.errstate(invalid="ignore"):
        shares = np.nanmean(counts[:, present, 1:].cumsum(2) / sizes[:, present, None], axis=0)
    place = np.empty(len(present), int)
    place[np.argsort(-shares.mean(1), kind="stable")] = np.arange(1, len(present) + 1)
    return pd.DataFrame(
        {
            "class_name": np.repeat(np.array(class_names, object)[present], num_epochs),
            "epoch": np.tile(np.arange(1, num_epochs + 1), len(present)),
            "cumulative_share": shares.ravel(),
            "num_examples": np.repeat(sizes.sum(0)[present].astype(int), num_epochs),
            "place": np.repeat(place, num_epochs),
            "num_seeds": len(first_learned),
        }
    )


def draw(table: pd.DataFrame, title: str) -> Figure:
    shares = table.pivot(index="epoch", columns="place", values="cumulative_share")
    names = table.drop_duplicates("place").set_index("place")["class_name"].str.split().str.join(" ")
    figure, axes = subplots(4.6)
    axes.set(xlabel="epoch", ylabel="fraction of the class learned at least once", ylim=(0, 1.02))
    bands = []
    for name, ends, color in (("range", (0, 1), "#ECECEC"), ("middle 50 %", (0.25, 0.75), "#C4C4C4")):
        low, high = shares.quantile(ends, axis=1).to_numpy()
        bands.append((axes.fill_between(shares.index, low, high, color=color, linewidth=0), name))
    (mean,) = axes.plot(shares.mean(axis=1), color="black", linewidth=2.4)
    heading = Line2D([], [], linestyle="none")
    entries = [(heading, f"{len(names):,} classes"), (mean, "mean"), *bands[::-1]]
    number = min(len(_FIRST), len(names) // 2)
    for what, places, colors in (
        ("learned first", range(1, number + 1), _FIRST),
        ("learned last", range(len(names) - number + 1, len(names) + 1), _LAST[-number:]),
    ):
        entries.append((heading, what))
        for place, color, dash in zip(places, colors, _DASHES, strict=False):
            (line,) = axes.plot(shares[place], color=color, linestyle=dash)
            entries.append((line, "\n".join(wrapped(names[place], _LETTERS))))
    handles, texts = zip(*entries, strict=True)
    legend = figure.legend(handles, range(len(texts)), loc="outside right center")
    # Set afterwards: matplotlib hides labels that begin with "_", and reads "$" as mathematics.
    for handle, text, name in zip(handles, legend.get_texts(), texts, strict=True):
        text.set(text=name, parse_math=False, weight="bold" if handle is heading else "normal")
    axes.xaxis.get_major_locator().set_params(integer=True)
    return with_title(figure, title, count_seeds(table["num_seeds"], "mean over {}"))

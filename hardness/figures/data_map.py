"""The data map (Swayamdipta et al. 2020, arXiv:2009.10795): confidence by variability, in hexagons.

The area of a hexagon shows how many examples it contains: a million are drawn as fast as a thousand.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from hardness.figures.style import WIDTH, epoch_ticks, set_title

CAPTION = (
    "Data map: mean and standard deviation of the given label's probability over epochs. A larger hexagon "
    "contains more examples."
)

_WIDTH, _HEIGHT = 0.5 / 36, 1 / 13
"""Of a step of the grid, in variability and confidence: hexagons lie on its points and between them."""
_HEXAGON = np.array([[0, 2], [1, 1], [1, -1], [0, -2], [-1, -1], [-1, 1]]) * [_WIDTH / 2, _HEIGHT / 6]
_REGIONS = {"easy to learn": (0.2, 1.0), "ambiguous": (0.47, 0.7), "hard to learn": (0.2, 0.0)}
"""Outside of sqrt(c (1 - c)), the largest variability possible at confidence c: no example is there."""
_KEY = (0.44, 1.0)
"""Position of the legend of areas, also outside."""


def prepare(scores: dict[str, pd.DataFrame], num_epochs: int) -> pd.DataFrame:
    """Seed -> scores: confidence, variability, first_learned_epoch, mean_loss (null: unreadable, left out).

    Returns one row per bin: variability, confidence (its centre), num_examples (over all seeds),
    first_learned_epoch (mean; an example that was never learned counts as never_as, num_epochs + 1),
    share_never, never_as, num_seeds.
    """
    # In half steps of the grid, coordinates are integers.
    rows, columns = round(2 / _HEIGHT) + 2, round(1 / _WIDTH) + 2
    totals = np.zeros((3, rows * columns))
    for table in scores.values():
        table = table[table["mean_loss"].notna()]
        bins = _bins(*(table[name].to_numpy(np.float32) for name in ("variability", "confidence")), columns)
        epochs = table["first_learned_epoch"].to_numpy(np.float32, na_value=np.nan)
        never = np.isnan(epochs)
        epochs = np.where(never, np.float32(num_epochs + 1), epochs)
        totals += [np.bincount(bins, weights, totals.shape[1]) for weights in (None, epochs, never)]
    num_examples, epochs, never = totals
    (filled,) = num_examples.nonzero()
    row, column = np.divmod(filled, columns)
    return pd.DataFrame(
        {
            "variability": column * (_WIDTH / 2),
            "confidence": row * (_HEIGHT / 2),
            "num_examples": num_examples[filled].astype(int),
            "first_learned_epoch": epochs[filled] / num_examples[filled],
            "share_never": never[filled] / num_examples[filled],
            "never_as": num_epochs + 1,
            "num_seeds": len(scores),
        }
    )


def _bins(variability: np.ndarray, confidence: np.ndarray, columns: int) -> np.ndarray:
    """(N,) each -> (N,) the nearest hexagon, row x columns + column."""
    x, y = variability / np.float32(_WIDTH), confidence / np.float32(_HEIGHT)
    on_x, on_y, off_x, off_y = np.rint(x), np.rint(y), np.floor(x), np.floor(y)
    # A vertical step is sqrt(3) times as long as a horizontal one.
    on = (x - on_x) ** 2 + 3 * (y - on_y) ** 2
    off = (x - off_x - 0.5) ** 2 + 3 * (y - off_y - 0.5) ** 2
    column = np.where(on <= off, 2 * on_x, 2 * off_x + 1)
    row = np.where(on <= off, 2 * on_y, 2 * off_y + 1)
    return row.astype(np.int32) * columns + column.astype(np.int32)


def draw(table: pd.DataFrame, title: str) -> Figure:
    figure = Figure(figsize=(WIDTH, 5.8))
    axes = figure.subplots()
    most = int(table["num_examples"].max())
    never = int(table["never_as"].iloc[0])
    centres = table[["variability", "confidence"]].to_numpy()
    hexagons = PolyCollection(
        _hexagons(centres, table["num_examples"].to_numpy(), most),
        array=table["first_learned_epoch"],
        cmap="viridis",
        clim=(1, never),
        edgecolors="#444444",
        linewidths=0.3,
        zorder=2,
    )
    axes.add_collection(hexagons)
    axes.set(
        xlim=(-0.01, 0.53),
        ylim=(-0.05, 1.05),
        xlabel="variability (standard deviation of the given label's probability over epochs)",
        ylabel="confidence (mean probability of the given label over epochs)",
    )
    # The ratio of steps that ``_bins`` assumes.
    axes.set_aspect(3**0.5 * _WIDTH / _HEIGHT)
    for region, place in _REGIONS.items():
        axes.text(*place, region, style="italic", color="#555555", va="center")
    _draw_key(axes, most)
    bar = figure.colorbar(hexagons, label="mean first-learned epoch")
    ticks = epoch_ticks(never - 1)
    bar.set_ticks([*ticks, never], labels=[*map(str, ticks), "never"])
    num_seeds = int(table["num_seeds"].iloc[0])
    several = f"all examples of {num_seeds} tracking seeds"
    set_title(figure, title, "one tracking seed" if num_seeds == 1 else several)
    return figure


def _hexagons(centres: np.ndarray, num_examples: np.ndarray, most: int) -> np.ndarray:
    """(M, 2), (M,) -> (M, 6, 2) corners; the area is linear in the logarithm of the number."""
    area = (1 + np.log10(num_examples)) / (1 + np.log10(most))
    return centres[:, None] + np.sqrt(area)[:, None, None] * _HEXAGON


def _draw_key(axes: Axes, most: int) -> None:
    """Up to four hexagons of 1, 10, 100, ... examples."""
    decades = int(np.log10(most))
    num_examples = 10 ** np.arange(0, decades + 1, 1 + decades // 4)
    places = _KEY - np.outer(np.arange(len(num_examples)), [0, 0.055])
    key = _hexagons(places, num_examples, most)
    axes.add_collection(PolyCollection(key, facecolors="white", edgecolors="#444444", linewidths=0.6))
    for (x, y), number in zip(places, num_examples, strict=True):
        text = f"{number:,} example{'s' if number > 1 else ''}"
        axes.text(x + _WIDTH, y, text, va="center", fontsize=8)

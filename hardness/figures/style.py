"""What all figures share: width, colors, bands, titles, and how they are saved.

Colors are from the palette of Okabe and Ito (2008), which color-blind readers can distinguish; where
possible, lines also differ in their dashes.
"""

import io
import textwrap
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import matplotlib.style
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image
from rich.cells import cell_len

from hardness.figures.fonts import drawable, families, without_remarks
from hardness.files import replacing
from hardness.registry import OPTIMIZERS

STYLE = Path(__file__).with_name("hardness.mplstyle")
WIDTH = 9.5
"""Of every figure, in inches (912 CSS pixels), so that text has the same size in all, at least 8 pt."""

SUBSET_COLORS = {
    "easy": "#009E73",
    "hard": "#D55E00",
    "random": "#000000",
    "easy-control": "#56B4E9",
    "hard-control": "#CC79A7",
}
_SPARE = ("#009E73", "#CC79A7", "#F0E442")
GROUP_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of the groups of runs that are compared."""
DPI = 160
_METADATA = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


def optimizer_legend(figure: Figure, table: pd.DataFrame) -> dict[str, str]:
    """Add a legend of all optimizers, since noise levels may have different ones -> the color of each.

    It is the registered one, the same in every figure, or one of the others.
    """
    names = table["optimizer"].unique()
    colors = {name: OPTIMIZERS[name].color if name in OPTIMIZERS else None for name in names}
    others = sorted(name for name, color in colors.items() if color is None)
    colors |= {name: _SPARE[index % len(_SPARE)] for index, name in enumerate(others)}
    handles = [Line2D([], [], color=color, label=name) for name, color in colors.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), title="optimizer")
    return colors


def legend_lines(dashes: dict[str, str]) -> list[Line2D]:
    """The entries of a legend of dashes: label -> dash."""
    return [Line2D([], [], color="#555555", linestyle=dash, label=label) for label, dash in dashes.items()]


def draw_band(axes: Axes, x: pd.Series, summary: pd.DataFrame, **line) -> None:
    """A mean line, and its interval, if there is one, as a band. ``summary`` has mean, low, high."""
    axes.plot(x, summary["mean"], **line)
    if summary["low"].notna().any():
        axes.fill_between(x, summary["low"], summary["high"], color=line["color"], alpha=0.12, linewidth=0)


def subplots(height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure of that height in inches, and its axes as of ``Figure.subplots``."""
    figure = Figure(figsize=(WIDTH, height))
    return figure, figure.subplots(rows, columns, **options)


def with_title(figure: Figure, title: str, note: str) -> Figure:
    """Add the title, wrapped to the figure, and a note in brackets. They are never read as mathematics."""
    lines = [*wrapped(title, round(WIDTH * 13)), f"({note})"]
    figure.suptitle("\n".join(lines), fontsize=9, parse_math=False)
    return figure


def draw_histogram(axes: Axes, x: Sequence[float], shares: pd.DataFrame, label: str) -> None:
    """A bar for each row of mean, low, high; the last one is of examples that were never learned."""
    colors = ["#0072B2"] * (len(shares) - 1) + ["#D55E00"]
    half = shares["high"] - shares["mean"]
    axes.bar(x, shares["mean"], color=colors, yerr=half, error_kw={"elinewidth": 0.8})
    axes.set(xlabel=label, ylabel="fraction of examples")
    axes.set_ylim(bottom=0)


def epoch_ticks(num_epochs: int) -> range:
    """About eight epochs; the last one leaves room for "never" beside it."""
    step = max(1, num_epochs // 8)
    return range(1, num_epochs + 1 - step // 2, step)


def seeds_note(num_seeds: pd.Series, unit: str = "seed") -> str:
    """The note about means and intervals below a figure's title; num_seeds: of each line, dot or bar."""
    least, most = int(num_seeds.min()), int(num_seeds.max())
    if most == 1:
        return f"one {unit}, so no interval"
    if least < most:
        return f"mean over {least} to {most} {unit}s, with 95 % Student t intervals if there are at least two"
    return f"mean over {most} {unit}s, with 95 % Student t intervals"


def count_seeds(num_seeds: pd.Series, note: str) -> str:
    """A note with the number of tracking seeds at ``{}``; of one seed, only that it is one."""
    most = int(num_seeds.max())
    return "one tracking seed" if most == 1 else note.format(f"{most} tracking seeds")


def wrapped(text: str, width: int) -> list[str]:
    """Wrap a user's text to lines that are at most as wide as so many Latin letters."""
    # textwrap counts letters: a wide one gets a filler, which is removed again.
    doubled = "".join(letter + "\0" * (cell_len(letter) - 1) for letter in drawable(text))
    return [line.replace("\0", "") for line in textwrap.wrap(doubled, width)]


def save(
    draw: Callable[[pd.DataFrame, str], Figure],
    table: pd.DataFrame,
    title: str,
    path: Path,
    formats: Collection[str] = ("png",),
) -> None:
    """Draw a figure, and write it in each of ``formats`` (png, svg, pdf), and its numbers as PATH.csv.

    The same table gives the same bytes, as long as the installed fonts are the same.
    """
    columns = table.select_dtypes(exclude="number")
    words = [title, *(str(word) for name in columns for word in columns[name].unique())]
    fonts = {"font.family": families("".join(words))}
    with matplotlib.style.context([STYLE, fonts]), without_remarks():
        figure = draw(table, title)
        # One layout for all formats: computing it takes longer than drawing.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for suffix in formats:
            with replacing(path.parent / f"{path.name}.{suffix}") as temporary:
                if suffix == "png":
                    _save_png(figure, temporary)
                else:
                    figure.savefig(temporary, format=suffix, metadata=_METADATA[suffix])
    with replacing(path.parent / f"{path.name}.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def _save_png(figure: Figure, path: Path) -> None:
    """With 256 colors: a third of the size, and no visible difference."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, pil_kwargs={"compress_level": 1})
    with Image.open(file) as image:
        few_colors = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    few_colors.save(path, "PNG", optimize=True, dpi=(DPI, DPI))

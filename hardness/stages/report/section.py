"""A part of the page: a question, its answer in words, the numbers behind them, its figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pandas as pd
from matplotlib.figure import Figure

from hardness.statistics import Estimate
from hardness.wording import Words


@dataclass
class Drawing:
    """A figure, before it is drawn."""

    name: str
    """Of its files; of all figures of one kind on the page ``all_sections`` makes it unique."""
    caption: str
    draw: Callable[[pd.DataFrame, str], Figure]
    table: pd.DataFrame


@dataclass
class Section:
    """What some runs say of a question."""

    title: str
    settings: str
    runs: Sequence[Path]
    """Their folders."""
    words: Words = field(default_factory=lambda: Words("", []))
    estimates: dict[str, Estimate] = field(default_factory=dict)
    drawings: list[Drawing] = field(default_factory=list)

    def add(self, figure: ModuleType, table: pd.DataFrame, caption: str) -> None:
        """A figure of ``hardness.figures``, by its table."""
        name = figure.__name__.rpartition(".")[2].replace("_", "-")
        self.drawings.append(Drawing(name, caption, figure.draw, table))

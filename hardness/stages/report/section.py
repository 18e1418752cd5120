"""A part of the page: a question, its answer in words, its numbers and figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from hardness.statistics import Estimate
from hardness.wording import Words


@dataclass
class Drawing:
    """A figure that is not drawn yet."""

    name: str
    """Of its files; ``all_sections`` makes it unique on the page."""
    caption: str
    draw: Callable[[pd.DataFrame, str], Figure]
    table: pd.DataFrame


@dataclass
class Section:
    """The answer of some runs to a question."""

    title: str
    settings: str
    runs: Sequence[Path]
    """Their folders."""
    words: Words = field(default_factory=lambda: Words("", []))
    estimates: dict[str, Estimate] = field(default_factory=dict)
    drawings: list[Drawing] = field(default_factory=list)

    def add(self, figure: ModuleType, *inputs: Any) -> pd.DataFrame:
        """Add a figure of ``hardness.figures`` -> its table, prepared from those inputs."""
        name = figure.__name__.rpartition(".")[2].replace("_", "-")
        table = figure.prepare(*inputs)
        self.drawings.append(Drawing(name, figure.CAPTION, figure.draw, table))
        return table

"""A part of the page: a question, its answer in words, its numbers and figures."""

import importlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pandas as pd

from hardness.console import progress
from hardness.figures import style
from hardness.findings.words import Words
from hardness.statistics import Estimate


@dataclass
class Drawing:
    """A figure that is not drawn yet."""

    module: ModuleType
    """Of ``hardness.figures``."""
    table: pd.DataFrame
    number: int = 1
    """Among the figures of this module on the page; set by ``all_sections``."""

    @property
    def title(self) -> str:
        """subset_bars: Subset bars."""
        return self.module.__name__.rpartition(".")[2].replace("_", " ").capitalize()

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.title.lower().replace(' ', '-')}-{self.number}"


@dataclass
class Section:
    """The answer of some runs to a question."""

    title: str
    settings: str
    runs: Sequence[Path]
    words: Words = field(default_factory=lambda: Words("", []))
    estimates: dict[str, Estimate] = field(default_factory=dict)
    drawings: list[Drawing] = field(default_factory=list)

    def add(self, figure: str, *inputs: Any) -> pd.DataFrame:
        """Add a figure, a module of ``hardness.figures`` -> its table, prepared from those inputs."""
        module = importlib.import_module(f"hardness.figures.{figure}")
        table = module.prepare(*inputs)
        self.drawings.append(Drawing(module, table))
        return table


def draw_all(sections: Sequence[Section], folder: Path, formats: Sequence[str]) -> None:
    """Draw all figures, into a folder that replaces an older one."""
    beside = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(beside, ignore_errors=True)
    with TemporaryDirectory() as temporary:
        drawn = Path(temporary) / folder.name
        drawn.mkdir()
        drawings = [(drawing, section.settings) for section in sections for drawing in section.drawings]
        for drawing, title in progress(drawings, len(drawings), "drawing"):
            style.save(drawing.module.draw, drawing.table, title, drawn / drawing.name, formats)
        shutil.copytree(drawn, beside)
    older = folder.with_name(f".{folder.name}.older")
    shutil.rmtree(older, ignore_errors=True)
    if folder.exists():
        folder.rename(older)
    beside.rename(folder)
    shutil.rmtree(older, ignore_errors=True)

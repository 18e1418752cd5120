from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hardness.registry import STAGES


@STAGES.register("export")
@dataclass(frozen=True, kw_only=True)
class Export:
    """Export the scores of a tracked run's examples for other tools."""

    run: Path | None = None
    """The tracked run. Default: the newest finished one under runs/."""
    to: Literal["csv", "cleanlab", "fiftyone"] = "csv"
    """csv: one row per example. cleanlab: label issues. fiftyone: a data set for its app (image folders)."""
    out: Path | None = None
    """The file (csv) or folder to write. Default: export.csv or export-TO in the run's folder."""

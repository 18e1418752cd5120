from dataclasses import dataclass
from pathlib import Path

from hardness.registry import STAGES


@STAGES.register("demo", function="hardness.recipes.run:demo")
@dataclass(frozen=True, kw_only=True)
class Demo:
    """Run everything on digits: track, split, retrain, memorize, report. Takes a minute or two."""

    runs: Path = Path("runs/demo")
    """Folder for the runs; finished ones there are not run again."""
    out: Path = Path("reports/demo")
    """The report's folder."""

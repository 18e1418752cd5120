from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardness.checks import require_positive
from hardness.registry import STAGES


@STAGES.register("labels", in_recipes=True, inputs={"track": "run", "score": "run"})
@dataclass(frozen=True, kw_only=True)
class Labels:
    """Rank the examples of a tracked run by how likely their labels are wrong."""

    run: Path | None = None
    """The tracked run. Default: the newest finished one under runs/."""
    by: str = "aum"
    """The score to rank by, hardest first; a column of the run's scores.parquet."""
    top: int = 10
    """How many labels to print, and to write to --csv."""
    csv: Path | None = None
    """Also write a CSV file: rank, path (of image files), key, example id, class names, score."""

    def __post_init__(self) -> None:
        require_positive(top=self.top)
        from hardness.dynamics.scores import SCORES

        SCORES[self.by]

    @staticmethod
    def output(settings: dict[str, Any]) -> Path:
        return settings["run"]

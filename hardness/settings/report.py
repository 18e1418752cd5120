from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hardness.config import AnyPath, Paths
from hardness.registry import STAGES


@STAGES.register(
    "report",
    in_recipes=True,
    inputs={"track": "runs", "score": "runs", "retrain": "runs", "memorize": "runs"},
    pooled=("runs",),
)
@dataclass(frozen=True, kw_only=True)
class Report:
    """Write a report on finished runs: one HTML page with figures and tables."""

    runs: Paths = ()
    """Folders of track, retrain and memorize runs. Default: all finished ones in runs/."""
    out: AnyPath = Path("reports/report")
    """The report's folder; an older report there is replaced."""
    title: str = "Easy and hard examples"
    formats: tuple[Literal["png", "svg", "pdf"], ...] = ("png",)
    """Formats of the figures' files; the page shows PNG."""
    images: bool = True
    """--no-images: show examples without their images, for reports that are shared."""

    @staticmethod
    def output(settings: dict[str, Any]) -> Path:
        return settings["out"]

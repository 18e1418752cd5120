"""The galleries of a report: one for runs of the same settings."""

from dataclasses import dataclass
from pathlib import Path

from hardness.stages.report.describe import alike, describe_tracking
from hardness.stages.report.gallery import Gallery, gallery


@dataclass(frozen=True)
class Shown:
    """A gallery, and of what."""

    settings: str
    runs: list[str]
    gallery: Gallery


def all_galleries(runs: dict[Path, dict], with_images: bool) -> list[Shown]:
    """One for each group of tracked runs."""
    found = []
    for group in alike(runs, "track"):
        settings = describe_tracking(next(iter(group.values())))
        found.append(Shown(settings, [path.name for path in group], gallery(group, with_images)))
    return found

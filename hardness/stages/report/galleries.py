"""The galleries of a report: one for runs of the same settings."""

from dataclasses import dataclass
from pathlib import Path

from hardness.stages.report.describe import Runs, describe_tracking, described
from hardness.stages.report.gallery import Gallery, gallery


@dataclass(frozen=True)
class Shown:
    """A gallery, and of what."""

    settings: str
    runs: list[Path]
    gallery: Gallery


def all_galleries(runs: Runs, with_images: bool) -> list[Shown]:
    """One for each group of tracked runs."""
    return [
        Shown(settings, list(group), gallery(group, with_images))
        for group, settings in described(runs, "track", describe_tracking)
    ]

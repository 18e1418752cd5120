"""The galleries of a report: one for runs of the same settings."""

from dataclasses import dataclass
from pathlib import Path

from hardness.stages.report.describe import Runs, alike, describe_tracking, described
from hardness.stages.report.gallery import Gallery, gallery


@dataclass(frozen=True)
class Shown:
    """A gallery, and of what."""

    settings: str
    runs: list[Path]
    gallery: Gallery


def all_galleries(runs: Runs, with_images: bool) -> list[Shown]:
    """One for each group of tracked runs."""
    groups = alike(runs, "track")
    return [
        Shown(settings, list(group), gallery(group, with_images))
        for group, settings in zip(groups, described(groups, describe_tracking), strict=True)
    ]

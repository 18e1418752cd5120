"""Jobs on data that a test has made."""

from typing import Any

from hardness.datasets import DataSet
from hardness.resources import Resources
from hardness.settings.track import Track
from hardness.training.job import Job


def job(data: DataSet, *, resources: Resources | None = None, **settings: Any) -> Job:
    """The job of ``hardness track`` with those settings, on the training examples of ``data``."""
    others = {name: settings.pop(name) for name in ("examples", "ids") if name in settings}
    others = {"examples": data.train, "ids": data.train.ids} | others
    return Job.of(Track(**settings), data, resources or Resources(), **others)

"""Which examples a network finds easy or hard, and why.

The public names are loaded on first use, so that importing the package (and ``hardness --help``) does not
import torch. ``track``, ``retrain``, ``memorize`` and ``report`` take the settings of the stage as keyword
arguments, and return the path of its output: ``hardness.track(data="digits", epochs=5)``.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hardness import optim
    from hardness.api import memorize, report, retrain, track
    from hardness.dynamics.record_pass import record_pass
    from hardness.dynamics.recorder import Recorder
    from hardness.dynamics.scores import scores
    from hardness.stages.labels import suspicious as labels
    from hardness.stages.split import subsets_of as split

__version__ = "0.1.0"

__all__ = [
    "Recorder",
    "labels",
    "memorize",
    "optim",
    "record_pass",
    "report",
    "retrain",
    "scores",
    "split",
    "track",
]

_PLACES = {
    "Recorder": "hardness.dynamics.recorder:Recorder",
    "labels": "hardness.stages.labels:suspicious",
    "record_pass": "hardness.dynamics.record_pass:record_pass",
    "scores": "hardness.dynamics.scores:scores",
    "split": "hardness.stages.split:subsets_of",
    **{stage: f"hardness.api:{stage}" for stage in ("memorize", "report", "retrain", "track")},
}


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name == "optim":
        return importlib.import_module("hardness.optim")
    if name not in _PLACES:
        raise AttributeError(f"module 'hardness' has no attribute {name!r}")
    module, attribute = _PLACES[name].split(":")
    return getattr(importlib.import_module(module), attribute)

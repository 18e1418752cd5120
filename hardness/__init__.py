"""Which examples a network finds easy or hard, and why.

The public names are loaded on first use, so that importing the package (and ``hardness --help``) does not
import torch. ``track``, ``retrain``, ``memorize`` and ``report`` take the settings of the stage as keyword
arguments, and return the path of its output: ``hardness.track(data="digits", epochs=5)``.
"""

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

if TYPE_CHECKING:
    from hardness import optim as optim
    from hardness.dynamics.record_pass import record_pass as record_pass
    from hardness.dynamics.recorder import Recorder as Recorder
    from hardness.dynamics.scores import scores as scores
    from hardness.stages.labels import suspicious as labels  # noqa: F401
    from hardness.stages.split import subsets_of as split  # noqa: F401

__version__ = "0.1.0"

_PUBLIC = {
    "Recorder": "hardness.dynamics.recorder:Recorder",
    "scores": "hardness.dynamics.scores:scores",
    "split": "hardness.stages.split:subsets_of",
    "labels": "hardness.stages.labels:suspicious",
    "record_pass": "hardness.dynamics.record_pass:record_pass",
}
_STAGES = ("track", "retrain", "memorize", "report")

__all__ = [*_PUBLIC, *_STAGES, "optim"]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name == "optim":
        return importlib.import_module("hardness.optim")
    if name in _PUBLIC:
        module, attribute = _PUBLIC[name].split(":")
        return getattr(importlib.import_module(module), attribute)
    if name in _STAGES:
        return functools.partial(_run, name)
    raise AttributeError(f"module 'hardness' has no attribute {name!r}")


def _run(stage: str, /, **settings: Any) -> Path:
    """Run a stage. Values are converted to the types of its settings: text to a path, a list to a tuple."""
    from pydantic import TypeAdapter

    from hardness.registry import STAGES

    entry = STAGES[stage]
    types = get_type_hints(entry.load())
    for name in settings.keys() & types.keys():
        settings[name] = TypeAdapter(types[name]).validate_python(settings[name])
    return entry.code()(entry.load()(**settings))

"""Which examples a network finds easy or hard, and why.

``Recorder``, ``scores``, ``split`` and ``optim`` are loaded on first use, so that importing the package (and
``hardness --help``) does not import torch.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Recorder": "hardness.dynamics.recorder:Recorder",
    "scores": "hardness.dynamics.scores:scores",
    "split": "hardness.stages.split:subsets_of",
}

__all__ = ["Recorder", "optim", "scores", "split"]


def __getattr__(name: str) -> Any:
    if name == "optim":
        return importlib.import_module("hardness.optim")
    if name in _PUBLIC:
        module, attribute = _PUBLIC[name].split(":")
        return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module 'hardness' has no attribute {name!r}")

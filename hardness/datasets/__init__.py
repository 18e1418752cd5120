"""From a data set's name or path to its examples, and a loader of batches."""

import importlib
from typing import Any

_PUBLIC = {
    "Loader": "loader",
    "Shuffled": "loader",
    "load": "loading",
    "DataSet": "examples",
    "Examples": "examples",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    # They import torch, but the sources in this folder are imported before it is needed.
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"hardness.datasets.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'hardness.datasets' has no attribute {name!r}")

"""Robust-gradient optimizers M3 and RM3, and their controls A3 and RA3."""

from collections.abc import Iterable

from torch.nn import Parameter
from torch.optim import Optimizer

from hardness.optim.m3 import A3, M3
from hardness.optim.median import median_of_three
from hardness.optim.rolling import RA3, RM3
from hardness.registry import OPTIMIZERS

__all__ = ["A3", "M3", "RA3", "RM3", "build", "median_of_three"]


def build(
    name: str,
    params: Iterable[Parameter],
    lr: float,
    weight_decay: float = 0.0,
    momentum: float | None = None,
) -> Optimizer:
    """The optimizer of that name in the registry; ``momentum=None`` leaves it at the name's own."""
    entry = OPTIMIZERS[name]
    options = dict(entry.options) if momentum is None else {**entry.options, "momentum": momentum}
    return entry.load()(params, lr=lr, weight_decay=weight_decay, **options)

"""Robust-gradient optimizers M3 and RM3, their controls A3 and RA3, a wrapper for any optimizer, and
winsorized SGD.
"""

from collections.abc import Iterable

from torch.nn import Parameter
from torch.optim import Optimizer

from hardness.optim.m3 import A3, M3
from hardness.optim.median import median_of_three
from hardness.optim.robust import robust
from hardness.optim.rolling import RA3, RM3, ScaledRA3
from hardness.optim.winsorized import WinsorizedSGD
from hardness.registry import parse_optimizer

__all__ = ["A3", "M3", "RA3", "RM3", "ScaledRA3", "WinsorizedSGD", "build", "median_of_three", "robust"]


def build(
    name: str,
    params: Iterable[Parameter],
    lr: float,
    weight_decay: float = 0.0,
    momentum: float | None = None,
) -> Optimizer:
    """The optimizer of that name (``rm3``, ``rm3+adamw``); ``momentum=None`` keeps the name's default."""
    method, entry = parse_optimizer(name)
    options = {} if momentum is None else {"momentum": momentum}
    optimizer = entry.load()(params, lr=lr, weight_decay=weight_decay, **options)
    return robust(optimizer, method) if method else optimizer

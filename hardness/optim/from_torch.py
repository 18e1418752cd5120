"""The optimizers of PyTorch, by the names of ``--optimizer``."""

from typing import Any

import torch
from torch.optim import Optimizer

from hardness.registry import OPTIMIZERS


@OPTIMIZERS.register("sgd", is_base=True, color="#000000")
def sgd(params: Any, lr: float, weight_decay: float, momentum: float = 0.0) -> Optimizer:
    """SGD, by default with momentum 0."""
    return torch.optim.SGD(params, lr, momentum, weight_decay=weight_decay)


@OPTIMIZERS.register("sgdm", is_base=True, color="#999999")
def sgdm(params: Any, lr: float, weight_decay: float, momentum: float = 0.9) -> Optimizer:
    """SGD, by default with momentum 0.9."""
    return torch.optim.SGD(params, lr, momentum, weight_decay=weight_decay)


@OPTIMIZERS.register("adam", is_base=True, takes_momentum=False)
def adam(params: Any, lr: float, weight_decay: float) -> Optimizer:
    """Adam."""
    return torch.optim.Adam(params, lr, weight_decay=weight_decay)


@OPTIMIZERS.register("adamw", is_base=True, takes_momentum=False)
def adamw(params: Any, lr: float, weight_decay: float) -> Optimizer:
    """Adam with decoupled weight decay."""
    return torch.optim.AdamW(params, lr, weight_decay=weight_decay)

"""What M3, A3, RM3 and RA3 share: groups of parameters, weight decay on arrival, the step."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer


class ThreeGradients(Optimizer):
    """Steps along a statistic of three gradients; a subclass says which three and which statistic.

    Weight decay times the parameter is added to a gradient when it arrives, before it is stored.
    Momentum, if any, is taken of the direction, as ``torch.optim.SGD`` does of the gradient. State is
    kept by parameter, and a parameter without a gradient is left as it is.

    lr: learning rate. Raises ``ValueError`` for a negative number, ``TypeError`` for sparse or complex
    gradients.
    """

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0, momentum: float = 0.0):
        for name, value in (("lr", lr), ("weight_decay", weight_decay), ("momentum", momentum)):
            if not value >= 0:
                raise ValueError(f"{name} must be 0 or more, not {value}")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    def _arrived(self) -> Iterator[tuple[Parameter, dict, dict, Tensor]]:
        """Yield (parameter, its group, its state, gradient with weight decay) where there is a gradient.

        The gradient may be ``.grad`` itself, and is not to be kept or changed.
        """
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                if gradient.is_sparse or gradient.is_complex():
                    kind = "sparse" if gradient.is_sparse else "complex"
                    raise TypeError(f"{type(self).__name__} takes no {kind} gradients")
                if group["weight_decay"]:
                    gradient = gradient.add(parameter, alpha=group["weight_decay"])
                yield parameter, group, self.state[parameter], gradient

    @staticmethod
    def _move(parameter: Parameter, group: dict, state: dict, direction: Tensor) -> None:
        if group["momentum"]:
            if "momentum_buffer" in state:
                direction = state["momentum_buffer"].mul_(group["momentum"]).add_(direction)
            else:
                state["momentum_buffer"] = direction.clone()
        parameter.add_(direction, alpha=-group["lr"])

    @staticmethod
    def _closure_loss(closure: Callable[[], Tensor] | None) -> Tensor | None:
        if closure is None:
            return None
        with torch.enable_grad():
            return closure()

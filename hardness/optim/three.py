"""What M3, A3, RM3 and RA3 share: settings, state by parameter, which gradients have arrived."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer


@dataclass(frozen=True)
class Alike:
    """Parameters of one device, dtype and number of gradients seen: what one kernel can take together.

    Lists of equal length. Of distributed parameters, the tensors are what this rank holds.
    """

    parameters: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)

    @property
    def num_seen(self) -> int:
        return self.states[0]["num_seen"]

    def count(self, num_seen: int) -> None:
        for state in self.states:
            state["num_seen"] = num_seen

    def buffers(self, *names: str) -> list[list[Tensor]]:
        """A list a name."""
        return [[local(state[name]) for state in self.states] for name in names]

    def momenta(self, group: dict[str, Any]) -> list[Tensor]:
        """Empty without momentum."""
        return self.buffers("momentum_buffer")[0] if group["momentum"] else []


class ThreeGradients(Optimizer):
    """Steps along a statistic of three gradients; a subclass says which three and which statistic.

    Weight decay times the parameter is added to a gradient when it arrives, before it is stored.
    Momentum, if any, is taken of the direction, as ``torch.optim.SGD`` does of the gradient. State is
    kept by parameter, and a parameter without a gradient is left as it is.

    lr: learning rate, a number or a tensor. maximize: go up the gradient. capturable: safe to record in a
    CUDA graph, after three steps without.

    Three ways to compute the same (medians in float32 on a CPU: bit for bit): foreach=False takes the
    parameters one by one, foreach=True some at a time, fused=True compiles the step into one kernel
    (ResNet-18: half a minute once a machine, later 3 s a process). By default it is fused on CUDA and from a
    million parameters on, where a compiler is there, and foreach elsewhere.

    Raises ``ValueError`` for a negative number, or foreach and fused together; ``TypeError`` for sparse or
    complex gradients.
    """

    _buffers: tuple[str, ...]
    """Names of the tensors of state, each of the gradient's shape, made once."""

    def __init__(
        self,
        params: Any,
        lr: float | Tensor,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
    ):
        for name, value in (("lr", lr), ("weight_decay", weight_decay), ("momentum", momentum)):
            if not value >= 0:
                raise ValueError(f"{name} must be 0 or more, not {value}")
        if foreach and fused:
            raise ValueError("foreach and fused are two ways to step: choose one")
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "maximize": maximize,
            "foreach": foreach,
            "fused": fused,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _arrived(self, group: dict[str, Any]) -> list[Alike]:
        """The parameters of the group that have a gradient, their state made where it is new."""
        kinds = defaultdict(Alike)
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self._state_of(parameter, group)
            alike = kinds[parameter.device, parameter.dtype, state["num_seen"]]
            alike.parameters.append(local(parameter))
            alike.gradients.append(local(parameter.grad))
            alike.states.append(state)
        return list(kinds.values())

    def _state_of(self, parameter: Parameter, group: dict) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:
            if parameter.grad.layout is not torch.strided or parameter.is_complex():
                kind = "complex" if parameter.is_complex() else "sparse"
                raise TypeError(f"{self._name} takes no {kind} gradients")
            state["num_seen"] = 0
            state.update({name: torch.zeros_like(parameter.grad) for name in self._buffers})
        if group["momentum"] and "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter.grad)
        return state

    def make_state(self) -> None:
        """Make the state of every parameter that has a gradient, counting none."""
        for group in self.param_groups:
            self._arrived(group)


def local(tensor: Tensor) -> Tensor:
    """The shard of a distributed tensor that this rank holds; another tensor is its own."""
    # A coordinate-wise statistic of shards is the shard of the statistic.
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def asks_for_state(optimizer: Optimizer) -> bool:
    """Whether a step is the one by which torch.distributed.checkpoint makes the state it loads into.

    That is the first, with learning rate 0 and every gradient 0: no gradient to count.
    """
    groups = optimizer.param_groups
    if optimizer.state or any(group["lr"] != 0 for group in groups):
        return False
    gradients = [parameter.grad for group in groups for parameter in group["params"]]
    return not any(local(gradient).any() for gradient in gradients if gradient is not None)


def loss_of(closure: Callable[[], Tensor] | None) -> Tensor | None:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()

"""What M3, A3, RM3 and RA3 share: settings, state by parameter, which gradients have arrived."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer


class Row(NamedTuple):
    """A parameter, its gradient and its state; of a distributed parameter, what this rank holds."""

    parameter: Tensor
    gradient: Tensor
    state: dict[str, Any]

    def buffer(self, name: str) -> Tensor:
        return local(self.state[name])


class ThreeGradients(Optimizer):
    """Steps along a statistic of three gradients; a subclass says which three and which statistic.

    Weight decay times the parameter is added to a gradient when it arrives, before it is stored.
    Momentum, if any, is taken of the direction, as ``torch.optim.SGD`` does of the gradient. State is
    kept by parameter, and a parameter without a gradient is left as it is.

    lr: learning rate, a number or a tensor. maximize: go up the gradient. capturable: safe to record in a
    CUDA graph, from the third step on. Two ways to compute the same, bit for bit in float32 on a CPU:
    foreach=False takes the parameters one by one; fused=True compiles the step into one kernel (seconds,
    once). By default it is fused on CUDA and from a million parameters on, where a compiler is there, and
    foreach elsewhere.

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

    def _arrived(self, group: dict) -> list[Row]:
        """The parameters of the group that have a gradient, their state made where it is new."""
        rows = []
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.layout != torch.strided or gradient.is_complex():
                kind = "complex" if gradient.is_complex() else "sparse"
                raise TypeError(f"{self._name} takes no {kind} gradients")
            rows.append(Row(local(parameter), local(gradient), self._state_of(parameter, group)))
        return rows

    def _state_of(self, parameter: Parameter, group: dict) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:
            state["num_seen"] = 0
            state.update({name: torch.zeros_like(parameter.grad) for name in self._buffers})
        if group["momentum"] and "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter.grad)
        return state

    def make_state(self) -> None:
        """Make the state of every parameter that has a gradient, counting none."""
        for group in self.param_groups:
            self._arrived(group)


def by_kind(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of one device, dtype and number of gradients seen: what one kernel can take together."""
    kinds = defaultdict(list)
    for row in rows:
        kinds[row.parameter.device, row.parameter.dtype, row.state["num_seen"]].append(row)
    return list(kinds.values())


def columns(rows: Sequence[Row], *buffers: str) -> list[list[Tensor]]:
    """The rows' buffers of these names, a list a name."""
    return [[row.buffer(name) for row in rows] for name in buffers]


def momenta(rows: Sequence[Row], group: dict) -> list[Tensor]:
    return columns(rows, "momentum_buffer")[0] if group["momentum"] else []


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

"""What M3, A3, RM3 and RA3 share: settings, state by parameter, which gradients have arrived."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

_SETTINGS = {"lr", "weight_decay", "momentum", "maximize", "foreach", "fused", "capturable"}
"""Of a parameter group."""


@dataclass(frozen=True)
class Alike:
    """Parameters of one device, dtype and number of gradients seen: what one kernel can take together.

    Lists of equal length. Of distributed parameters, the tensors are what this rank holds: a coordinate-wise
    statistic of shards is the shard of the statistic.
    """

    is_distributed: bool
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
        columns = [[state[name] for state in self.states] for name in names]
        if self.is_distributed:
            columns = [[tensor.to_local() for tensor in column] for column in columns]
        return columns

    def momenta(self, group: dict[str, Any]) -> list[Tensor]:
        """Empty without momentum."""
        return self.buffers("momentum_buffer")[0] if group["momentum"] else []


class ThreeGradients(Optimizer):
    """Steps along a statistic of three gradients; a subclass says which three and which statistic.

    Momentum, if any, is taken of the direction, as ``torch.optim.SGD`` does of the gradient; a schedule that
    cycles it (OneCycleLR, unless told not to) turns it on. State is kept by parameter, and a parameter
    without a gradient is left as it is.

    lr: learning rate, a number or a tensor. maximize: go up the gradient. capturable: safe to record in a
    CUDA graph, after three steps without.

    Three ways to compute the same (medians in float32 on a CPU: bit for bit): foreach=False takes the
    parameters one by one, foreach=True some at a time, fused=True compiles the step into one kernel
    (ResNet-18: half a minute once a machine, later 3 s a process). By default it is fused on CUDA and from a
    million parameters on, where a compiler is there, and foreach elsewhere.

    Raises ``ValueError`` for a negative number, for foreach and fused together, and for the state of another
    optimizer; ``TypeError`` for sparse or complex gradients.
    """

    _buffers: tuple[str, ...]
    """Names of the tensors of state, each of the gradient's shape, made once."""
    is_handed_over = False
    """Whether ``.grad`` holds the direction already."""

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
        if torch.is_tensor(lr) and lr.numel() != 1:
            raise ValueError(f"lr must be one number, not {lr.numel()}")
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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.check_state_dict(state_dict)
        super().load_state_dict(state_dict)
        self.is_handed_over = False

    def check_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raise ``ValueError`` where it is of another optimizer."""
        expected = {"num_seen", *self._buffers}
        states = [set(entries) - {"momentum_buffer"} for entries in state_dict["state"].values() if entries]
        groups = [group.keys() for group in state_dict["param_groups"]]
        wrong = [(expected, found) for found in states if found != expected]
        wrong += [(_SETTINGS, found) for found in groups if not found >= _SETTINGS]
        if wrong:
            wanted, found = (", ".join(sorted(names)) for names in wrong[0])
            raise ValueError(f"expected the state of {self._name} ({wanted}); found {found}")

    def make_state(self) -> None:
        """Make the state of every parameter that has a gradient, counting none."""
        for group in self.param_groups:
            self._arrived(group)

    def _arrived(self, group: dict[str, Any]) -> list[Alike]:
        """The parameters of the group that have a gradient, their state made where it is new."""
        kinds: dict[Any, Alike] = {}
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            is_distributed = hasattr(gradient, "placements")
            if is_distributed:
                gradient = _place_gradient(parameter)
            state = self.state[parameter]
            if not state:
                self._make(state, gradient)
            if group["momentum"] and "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(gradient)
            kind = parameter.device, parameter.dtype, state["num_seen"], is_distributed
            if kind not in kinds:
                kinds[kind] = Alike(is_distributed)
            alike = kinds[kind]
            alike.parameters.append(parameter.to_local() if is_distributed else parameter)
            alike.gradients.append(gradient.to_local() if is_distributed else gradient)
            alike.states.append(state)
        return list(kinds.values())

    def _make(self, state: dict[str, Any], gradient: Tensor) -> None:
        if gradient.layout is not torch.strided or gradient.is_complex():
            kind = "complex" if gradient.is_complex() else "sparse"
            raise TypeError(f"{self._name} takes no {kind} gradients")
        state.update({name: torch.zeros_like(gradient) for name in self._buffers}, num_seen=0)


def rates(group: dict[str, Any]) -> dict[str, Any]:
    """A parameter group's settings of a step, as kernels take them: None for what is 0 or off."""
    lr = group["lr"]
    return {
        "lr": lr.reshape(()) if torch.is_tensor(lr) else float(lr),
        "weight_decay": float(group["weight_decay"]) or None,
        "momentum": float(group["momentum"]) or None,
        "maximize": group["maximize"],
    }


def asks_for_state(optimizer: Optimizer) -> bool:
    """Whether a step is the one by which torch.distributed.checkpoint makes the state it loads into.

    That has learning rate 0 and gradients that are all 0, where there is no state yet: nothing to count.
    """
    groups = optimizer.param_groups
    if optimizer.state or any(group.get("lr", 1) != 0 for group in groups):
        return False
    gradients = [parameter.grad for group in groups for parameter in group["params"]]
    gradients = [gradient for gradient in gradients if gradient is not None]
    return bool(gradients) and not any(_is_nonzero(gradient) for gradient in gradients)


def loss_of(closure: Callable[[], Tensor] | None) -> Tensor | None:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _place_gradient(parameter: Parameter) -> Tensor:
    """Of a distributed parameter: its gradient, cut as the parameter is."""
    if parameter.grad.placements != parameter.placements:
        # Tensor parallelism leaves sums over ranks to whoever reads them.
        parameter.grad = parameter.grad.redistribute(placements=parameter.placements)
    return parameter.grad


def _is_nonzero(gradient: Tensor) -> bool:
    """Of a distributed tensor: the same answer on every rank."""
    total = gradient.abs().sum()
    return bool(total.full_tensor() if hasattr(total, "full_tensor") else total)

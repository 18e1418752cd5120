"""The common base of M3, A3, RM3 and RA3: settings, state per parameter, grouping of parameters."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from hardness.console import warn


@dataclass(frozen=True)
class ParameterBucket:
    """Parameters with the same device, dtype and number of gradients seen, which one kernel can process.

    Lists of equal length. Of distributed parameters it has the local shards: a coordinate-wise statistic of
    shards is the shard of the statistic.
    """

    is_distributed: bool
    parameters: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)

    @property
    def num_seen(self) -> int:
        return self.states[0]["num_seen"]

    def set_num_seen(self, num_seen: int) -> None:
        for state in self.states:
            state["num_seen"] = num_seen

    def buffers(self, *names: str) -> list[list[Tensor]]:
        """One list per name."""
        columns = [[state[name] for state in self.states] for name in names]
        if self.is_distributed:
            columns = [[tensor.to_local() for tensor in column] for column in columns]
        return columns

    def momenta(self, group: dict[str, Any]) -> list[Tensor]:
        """Empty without momentum."""
        return self.buffers("momentum_buffer")[0] if group["momentum"] else []


class ThreeGradients(Optimizer):
    """Steps along a statistic of three gradients; a subclass defines which three and which statistic.

    Momentum applies to the direction, as that of ``torch.optim.SGD`` does to the gradient; a schedule that
    cycles it (OneCycleLR by default) turns it on. State is per parameter; a parameter without a gradient is
    not changed.

    lr: learning rate, a number or a tensor. maximize: gradient ascent. capturable: safe to capture in a CUDA
    graph, after three steps outside of it.

    Three implementations with the same result (medians in float32 on a CPU: bit for bit): foreach=False
    processes one parameter at a time, foreach=True several, fused=True compiles the step into one kernel
    (ResNet-18: half a minute once per machine, then 3 s per process). The default is fused on CUDA and from a
    million parameters on, if a compiler is available, and foreach otherwise.

    Raises ``ValueError`` for a negative number, for foreach and fused together, and for the state of another
    optimizer; ``TypeError`` for sparse or complex gradients.
    """

    _buffers: tuple[str, ...]
    """Names of the state tensors, each of the gradient's shape, allocated once."""
    is_handed_over = False
    """Does ``.grad`` already hold the direction?"""

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
        rates = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        for name, value in rates.items():
            if not value >= 0:
                raise ValueError(f"{name} must be 0 or more, not {value}")
        if foreach and fused:
            raise ValueError("foreach and fused cannot both be True")
        ways = {"maximize": maximize, "foreach": foreach, "fused": fused, "capturable": capturable}
        super().__init__(params, rates | ways)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.check_state_dict(state_dict)
        super().load_state_dict(state_dict)
        self.is_handed_over = False

    def check_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raise ``ValueError`` for the state of another optimizer."""
        expected = {"num_seen", *self._buffers}
        states = [set(entries) - {"momentum_buffer"} for entries in state_dict["state"].values() if entries]
        groups = [group.keys() for group in state_dict["param_groups"]]
        wrong = [(expected, found) for found in states if found != expected]
        # torch adds this one to some optimizers.
        settings = self.defaults.keys() - {"differentiable"}
        wrong += [(settings, found) for found in groups if not found >= settings]
        if wrong:
            own, found = (", ".join(sorted(names)) for names in wrong[0])
            raise ValueError(f"not the state of {self._name}: it has {found}, {self._name} has {own}")

    def make_state(self) -> None:
        """Create the state of every parameter that has a gradient, without counting the gradient."""
        for group in self.param_groups:
            self._buckets(group)

    def _buckets(self, group: dict[str, Any]) -> list[ParameterBucket]:
        """The parameters of the group that have a gradient; creates missing state."""
        # OneCycleLR and CyclicLR add this key, and set a momentum by default.
        if "max_momentum" in group and group["momentum"] and not self.defaults["momentum"]:
            _warn_once(
                f"a learning rate schedule has switched on momentum in {self._name}, which was created "
                "without: pass cycle_momentum=False to the schedule to keep it off"
            )
        buckets: dict[Any, ParameterBucket] = {}
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
            bucket = buckets.setdefault(kind, ParameterBucket(is_distributed))
            bucket.parameters.append(parameter.to_local() if is_distributed else parameter)
            bucket.gradients.append(gradient.to_local() if is_distributed else gradient)
            bucket.states.append(state)
        return list(buckets.values())

    def _make(self, state: dict[str, Any], gradient: Tensor) -> None:
        if gradient.layout is not torch.strided or gradient.is_complex():
            kind = "complex" if gradient.is_complex() else "sparse"
            raise TypeError(f"{self._name} does not support {kind} gradients")
        state.update({name: torch.zeros_like(gradient) for name in self._buffers}, num_seen=0)


_warn_once = cache(warn)


def rates(group: dict[str, Any]) -> dict[str, Any]:
    """A parameter group's settings as arguments of a kernel: None for weight decay or momentum 0."""
    lr = group["lr"]
    return {
        "lr": lr.reshape(()) if torch.is_tensor(lr) else float(lr),
        "weight_decay": float(group["weight_decay"]) or None,
        "momentum": float(group["momentum"]) or None,
        "maximize": group["maximize"],
    }


def only_initializes_state(optimizer: Optimizer) -> bool:
    """Is this the step by which torch.distributed.checkpoint creates the state that it loads into?

    It has learning rate 0, all gradients 0 and no state yet, and must not be counted.
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
    """The gradient of a distributed parameter, with the parameter's placements."""
    if parameter.grad.placements != parameter.placements:
        # Under tensor parallelism a gradient may be a partial sum that is not yet reduced over ranks.
        parameter.grad = parameter.grad.redistribute(placements=parameter.placements)
    return parameter.grad


def _is_nonzero(gradient: Tensor) -> bool:
    """The result is the same on every rank, also for a distributed tensor."""
    total = gradient.abs().sum()
    return bool(total.full_tensor() if hasattr(total, "full_tensor") else total)

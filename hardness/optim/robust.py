"""A wrapper that replaces the gradient of any optimizer by a robust statistic of three gradients."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from hardness.console import warn
from hardness.optim.base import ThreeGradients, loss_of, only_initializes_state
from hardness.optim.m3 import GroupGradients
from hardness.optim.requirements import requirements
from hardness.registry import OPTIMIZERS

_PREFIX = "robust_"


def robust(
    base: Optimizer,
    method: str = "rm3",
    *,
    foreach: bool | None = None,
    fused: bool | None = None,
    capturable: bool | None = None,
) -> "Robust":
    """An optimizer whose steps are those of ``base`` along the direction of ``method`` (rm3, ra3, m3 or a3).

    Before each step ``.grad`` is replaced by the direction, which the base treats as a gradient: momentum,
    weight decay and scaling are those of the base. With rm3 and ra3 the base receives no gradient until three
    have been seen. With m3 and a3 the result has ``collect()`` and ``direction_to_grad()``, as ``M3`` does.
    Parameter groups are the base's. ``state_dict()`` has two more numbers per parameter (a3: one).
    foreach, fused and capturable apply to the statistic, as in ``ThreeGradients``; capturable is
    by default that of the base.

    ``torch.distributed.checkpoint`` initializes missing state of a base by an extra step, here also during
    the first two steps of rm3 and ra3; some bases count it.

    Raises ``ValueError`` for an unknown method, and for a base that is already robust or does not work on
    dense gradients alone.
    """
    if method not in OPTIMIZERS or not OPTIMIZERS[method].is_method:
        known = ", ".join(name for name, entry in OPTIMIZERS.items() if entry.is_method)
        raise ValueError(f"method must be one of {known}, not {method!r}")
    if isinstance(base, _NOT_PLAIN) or requirements(base).example_gradients:
        raise ValueError(f"{type(base).__name__} cannot be made robust: use an optimizer of dense gradients")
    parameters = [parameter for group in base.param_groups for parameter in group["params"]]
    if capturable is None:
        capturable = base.defaults.get("capturable", False)
    three = OPTIMIZERS[method].load()(parameters, lr=0.0, foreach=foreach, fused=fused, capturable=capturable)
    _warn_once(
        f"{type(base).__name__} applies its momentum, if any, to the directions of {method}: "
        "the paper found momentum unstable"
    )
    return RobustGroups(base, three) if isinstance(three, GroupGradients) else Robust(base, three)


class Robust(Optimizer):
    """The optimizer that ``robust`` returns. ``three`` computes the direction; it never steps itself."""

    def __init__(self, base: Optimizer, three: ThreeGradients):
        # The only attributes, also after copying and unpickling: everything else belongs to the base.
        self.__setstate__({"base": base, "three": three})

    def __getstate__(self) -> dict[str, Any]:
        return {"base": self.base, "three": self.three}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.base.param_groups

    @property
    def state(self) -> dict[Tensor, Any]:
        """The base's."""
        return self.base.state

    @property
    def defaults(self) -> dict[str, Any]:
        return self.base.defaults

    def __repr__(self) -> str:
        return f"{type(self.three).__name__} on {self.base!r}"

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.base.add_param_group(param_group)

    def step(self, closure: Callable[[], Tensor] | None = None) -> Any:
        """Add the gradients; the base steps along the direction. The closure is called once."""
        return self._step(closure)

    def state_dict(self) -> dict[str, Any]:
        """The base's state, extended by that of the three gradients under prefixed names."""
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        state_dict = self.base.state_dict()
        state = dict(state_dict["state"])
        for index, entries in self._up_to_date().state_dict()["state"].items():
            prefixed = {_PREFIX + name: value for name, value in entries.items()}
            state[index] = {**state.get(index, {}), **prefixed}
        state_dict = {**state_dict, "state": state}
        for hook in self._optimizer_state_dict_post_hooks.values():
            state_dict = hook(self, state_dict) or state_dict
        return state_dict

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of such an optimizer, or of its base alone (then no gradients have been seen)."""
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = hook(self, state_dict) or state_dict
        own, rest = {}, {}
        for index, entries in state_dict["state"].items():
            mine = [name for name in entries if name.startswith(_PREFIX)]
            own[index] = {name.removeprefix(_PREFIX): entries[name] for name in mine}
            rest[index] = {name: value for name, value in entries.items() if name not in mine}
        if any("num_seen" in entries for entries in rest.values()):
            raise ValueError(f"not the state of {type(self.base).__name__}, but of M3, A3, RM3 or RA3")
        # Parameters are named by numbers, or by words if they come from torch.distributed.checkpoint.
        names = [name for group in state_dict["param_groups"] for name in group["params"]]
        three = self._up_to_date()
        own = {"state": _without_empty(own), "param_groups": [{**three.param_groups[0], "params": names}]}
        three.check_state_dict(own)
        self.base.load_state_dict({**state_dict, "state": _without_empty(rest)})
        three.load_state_dict(own)
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def _step(self, closure: Callable[[], Tensor] | None) -> Any:
        loss = loss_of(closure)
        three = self._up_to_date()
        if not three.is_handed_over and only_initializes_state(self.base):
            three.make_state()
            self.base.step()
            return loss
        three.replace_gradients()
        try:
            self.base.step()
        finally:
            three.restore_gradients()
        return loss

    def _up_to_date(self) -> ThreeGradients:
        """Includes parameters that were added to the base later."""
        self.three.param_groups[0]["params"] = [
            parameter for group in self.base.param_groups for parameter in group["params"]
        ]
        return self.three


class RobustGroups(Robust):
    """For m3 and a3: three times ``{backward(); collect()}``, then ``step()``."""

    requirements = GroupGradients.requirements

    def collect(self) -> None:
        """As ``M3.collect``."""
        self._up_to_date().collect()

    def direction_to_grad(self) -> None:
        """As ``M3.direction_to_grad``."""
        self._up_to_date().direction_to_grad()

    def discard(self) -> None:
        """As ``M3.discard``."""
        self._up_to_date().discard()

    def step(self, closure: None = None) -> None:
        """The base steps along the direction. Raises ``RuntimeError`` unless three groups were collected."""
        if closure is not None:
            raise RuntimeError("step() takes no closure: call collect() for each of three gradients")
        self._step(None)


_NOT_PLAIN = (Robust, ThreeGradients, torch.optim.LBFGS, torch.optim.SparseAdam)


def _without_empty(state: dict[Any, dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    return {index: entries for index, entries in state.items() if entries}


_warn_once = cache(warn)

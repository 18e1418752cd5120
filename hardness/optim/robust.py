"""Any optimizer, stepping along a robust statistic of three gradients instead of the last one."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from hardness.console import warn
from hardness.optim.m3 import GroupGradients
from hardness.optim.three import ThreeGradients, asks_for_state, loss_of
from hardness.optim.winsorized import WinsorizedSGD
from hardness.registry import OPTIMIZERS

_PREFIX = "robust_"


def robust(
    base: Optimizer,
    method: str = "rm3",
    *,
    foreach: bool | None = None,
    fused: bool | None = None,
    capturable: bool = False,
) -> "Robust":
    """An optimizer whose steps are those of ``base`` along the direction of ``method`` (rm3, ra3, m3 or a3).

    Before each step ``.grad`` becomes the direction, and the base does with it what it would with a gradient:
    its momentum, weight decay and scaling are its own. Until three gradients have been seen (rm3, ra3), the
    base sees no gradient. With m3 and a3 there are ``collect()`` and ``direction_to_grad()``, as ``M3`` has.
    Parameter groups are the base's. Two numbers of state a parameter (a3: one) go with those of the base into
    ``state_dict()``. foreach, fused and capturable are of the filter, as ``ThreeGradients`` has them.

    ``torch.distributed.checkpoint`` makes the state of a base that has none yet by a step of its own, here in
    the first two steps of rm3 and ra3 as well, which some bases count.

    Raises ``ValueError`` for another method, and for a base that is robust already or takes more than dense
    gradients.
    """
    if method not in OPTIMIZERS or not OPTIMIZERS[method].is_method:
        known = ", ".join(name for name, entry in OPTIMIZERS.items() if entry.is_method)
        raise ValueError(f"expected a method among {known}; found {method!r}")
    if isinstance(base, _NOT_PLAIN):
        raise ValueError(f"expected a plain optimizer to make robust; found {type(base).__name__}")
    parameters = [parameter for group in base.param_groups for parameter in group["params"]]
    three = OPTIMIZERS[method].load()(parameters, lr=0.0, foreach=foreach, fused=fused, capturable=capturable)
    _warn_once(
        f"{type(base).__name__} keeps its own momentum, if any: of {method}'s directions, "
        "which the paper's authors found unstable"
    )
    return RobustGroups(base, three) if isinstance(three, GroupGradients) else Robust(base, three)


class Robust(Optimizer):
    """What ``robust`` makes. ``three`` keeps the gradients and gives the direction; it never steps itself."""

    def __init__(self, base: Optimizer, three: ThreeGradients):
        # All that there is to it, and what copying and pickling restore: the rest is the base's.
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
        """Take in the gradients; the base steps along the direction. The closure is called once."""
        return self._step(closure)

    def state_dict(self) -> dict[str, Any]:
        """The base's, and with each parameter's state that of the three gradients under prefixed names."""
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
        """Of this optimizer, or of its base alone: that begins with no gradient seen."""
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            state_dict = hook(self, state_dict) or state_dict
        own, rest = {}, {}
        for index, entries in state_dict["state"].items():
            own[index] = {
                name.removeprefix(_PREFIX): value
                for name, value in entries.items()
                if name.startswith(_PREFIX)
            }
            rest[index] = {name: value for name, value in entries.items() if not name.startswith(_PREFIX)}
        if any("num_seen" in entries for entries in rest.values()):
            raise ValueError(
                f"expected the state of {type(self.base).__name__}; found that of M3, A3, RM3 or RA3"
            )
        # Names of parameters: numbers, or words where they come from torch.distributed.checkpoint.
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
        if not three.is_handed_over and asks_for_state(self.base):
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
        """The base may have been given more parameters since."""
        self.three.param_groups[0]["params"] = [
            parameter for group in self.base.param_groups for parameter in group["params"]
        ]
        return self.three


class RobustGroups(Robust):
    """Three times ``{backward(); collect()}``, then ``step()``, as ``M3`` and ``A3``."""

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
        """The base steps along the direction. Raises ``RuntimeError`` but after three collects."""
        if closure is not None:
            raise RuntimeError("no closure: three gradients need three collects")
        self._step(None)


_NOT_PLAIN = (Robust, ThreeGradients, WinsorizedSGD, torch.optim.LBFGS, torch.optim.SparseAdam)


def _without_empty(state: dict[Any, dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    return {index: entries for index, entries in state.items() if entries}


_warn_once = cache(warn)

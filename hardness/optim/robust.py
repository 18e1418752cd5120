"""Any optimizer, stepping along a robust statistic of three gradients instead of the last one."""

from functools import cache
from typing import Any

from torch.nn import Parameter
from torch.optim import Optimizer

from hardness.console import warn
from hardness.optim.m3 import GroupGradients
from hardness.optim.three import ThreeGradients, asks_for_state
from hardness.registry import OPTIMIZERS

_PREFIX = "robust_"


def robust(base: Optimizer, method: str = "rm3") -> Optimizer:
    """Make ``base`` step along the direction of ``method`` (rm3, ra3, m3 or a3); returns ``base``.

    Before each step ``.grad`` becomes the direction, and the base does with it what it would with a gradient:
    its momentum, weight decay and scaling are its own. Until three gradients have been seen (rm3, ra3), the
    base sees no gradient. With m3 and a3 the base gets ``collect()`` and ``direction_to_grad()``, as ``M3``
    has. Two numbers of state a parameter (a3: one) travel in the base's ``state_dict()``.

    Raises ``ValueError`` for another method, ``RuntimeError`` for a step with a closure.
    """
    if method not in OPTIMIZERS or not OPTIMIZERS[method].is_robust:
        known = ", ".join(name for name, entry in OPTIMIZERS.items() if entry.is_robust)
        raise ValueError(f"expected a method among {known}; found {method!r}")
    capturable = bool(base.defaults.get("capturable"))
    three = OPTIMIZERS[method].load()(_parameters(base), lr=0.0, capturable=capturable)
    filtering = _Filter(three)
    base.register_step_pre_hook(filtering.before_step)
    base.register_step_post_hook(filtering.after_step)
    base.register_state_dict_post_hook(filtering.add_state)
    base.register_load_state_dict_pre_hook(filtering.take_state)
    # A GradScaler would leave the scale in the gradients of a fused base, and it changes between steps.
    base._step_supports_amp_scaling = False
    if isinstance(three, GroupGradients):
        base.collect, base.direction_to_grad = three.collect, three.direction_to_grad
    _warn_once(
        f"{type(base).__name__} keeps its own momentum, if any: of {method}'s directions, "
        "which the paper's authors found unstable"
    )
    return base


class _Filter:
    """The hooks of one base optimizer. ``three`` keeps the gradients; its own step is never taken."""

    def __init__(self, three: ThreeGradients):
        self.three = three

    def before_step(self, base: Optimizer, args: tuple, kwargs: dict[str, Any]) -> None:
        if any(closure is not None for closure in (*args[1:], *kwargs.values())):
            raise RuntimeError("a robust optimizer takes no closure: its gradients come before the step")
        # The base may have been given more since.
        self.three.param_groups[0]["params"] = _parameters(base)
        self.makes_state = asks_for_state(base)
        if self.makes_state:
            self.three.make_state()
        else:
            self.three.replace_gradients()

    def after_step(self, base: Optimizer, args: tuple, kwargs: dict[str, Any]) -> None:
        if not self.makes_state:
            self.three.restore_gradients()

    def add_state(self, base: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Each parameter's state, and the count of the first parameter group, under prefixed names."""
        self.three.param_groups[0]["params"] = _parameters(base)
        own = self.three.state_dict()
        state = dict(state_dict["state"])
        for index, entries in own["state"].items():
            state[index] = {**state.get(index, {}), **_prefixed(entries)}
        first, *others = state_dict["param_groups"]
        return {**state_dict, "state": state, "param_groups": [{**first, **_prefixed(_count(own))}, *others]}

    def take_state(self, base: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        """Take out what ``add_state`` added; begin anew where there is nothing."""
        own, rest = {}, {}
        for index, entries in state_dict["state"].items():
            rest[index], own[index] = _parted(entries)
            if own[index] and not set(self.three._buffers) <= set(own[index]):
                raise ValueError(f"expected the state of {self.three._name}; found {', '.join(own[index])}")
        first, *others = state_dict["param_groups"]
        first, count = _parted(first)
        self.three.param_groups[0]["params"] = _parameters(base)
        # Ids of parameters in the state dict: numbers, or names where it comes from distributed.checkpoint.
        ids = [index for group in state_dict["param_groups"] for index in group["params"]]
        group = {**self.three.param_groups[0], **count, "params": ids}
        kept = {index: entries for index, entries in own.items() if entries}
        self.three.load_state_dict({"state": kept, "param_groups": [group]})
        rest = {index: entries for index, entries in rest.items() if entries}
        return {**state_dict, "state": rest, "param_groups": [first, *others]}


def _parameters(base: Optimizer) -> list[Parameter]:
    return [parameter for group in base.param_groups for parameter in group["params"]]


def _count(state_dict: dict[str, Any]) -> dict[str, int]:
    return {name: value for name, value in state_dict["param_groups"][0].items() if name == "num_collected"}


def _prefixed(entries: dict[str, Any]) -> dict[str, Any]:
    return {_PREFIX + name: value for name, value in entries.items()}


def _parted(entries: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """-> the base's entries, and ours without their prefix."""
    own = {name.removeprefix(_PREFIX): value for name, value in entries.items() if name.startswith(_PREFIX)}
    return {name: value for name, value in entries.items() if not name.startswith(_PREFIX)}, own


_warn_once = cache(warn)

"""M3 and A3: the median, or the mean, of three group gradients of one mini-batch.

Zielinski, Krishnan, Chatterjee, arXiv:2003.07422v2 (2020). Group g is the examples whose position in the
mini-batch is g modulo 3. A3 is the control for M3: the same forward passes (batch normalisation sees groups,
not the batch), the mean instead of the median.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hardness.optim.median import median_from_ordered_, order_
from hardness.optim.three import ThreeGradients

NUM_GROUPS = 3


class GroupGradients(ThreeGradients):
    """Three times ``{backward(); optimizer.collect()}``, then ``optimizer.step()``."""

    _take_in: Callable[[dict, Tensor, int], None]
    """(state, gradient, how many came before): after the third, ``state["direction"]`` is the direction."""

    @property
    def _num_collected(self) -> int:
        """Groups since the last step; kept with the parameter groups, so that state_dict() holds it."""
        return self.param_groups[0].setdefault("num_collected", 0)

    @torch.no_grad()
    def collect(self) -> None:
        """Take in the gradients of one group and clear ``.grad``.

        Raises ``RuntimeError`` where a step is due, or where a parameter has a gradient in some groups only.
        """
        number = self._num_collected
        if number == NUM_GROUPS:
            raise RuntimeError(f"{self._name} has {NUM_GROUPS} gradients: call step() before collect()")
        for parameter, _, state, gradient in self._arrived():
            if state.setdefault("num_collected", 0) != number:
                raise RuntimeError(self._uneven)
            self._take_in(state, gradient, number)
            state["num_collected"] = number + 1
            parameter.grad = None
        self.param_groups[0]["num_collected"] = number + 1

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move every parameter along the direction. Raises ``RuntimeError`` but after three collects."""
        if closure is not None:
            raise RuntimeError(f"{self._name} takes no closure: three gradients need three collects")
        if self._num_collected != NUM_GROUPS:
            found = self._num_collected
            raise RuntimeError(f"{self._name} needs {NUM_GROUPS} collects before a step, not {found}")
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state.get(parameter, {})
                if not state.get("num_collected"):
                    continue
                if state["num_collected"] != NUM_GROUPS:
                    raise RuntimeError(self._uneven)
                self._move(parameter, group, state, state["direction"])
                state["num_collected"] = 0
        self.param_groups[0]["num_collected"] = 0

    @property
    def _name(self) -> str:
        return type(self).__name__

    @property
    def _uneven(self) -> str:
        return f"{self._name}: a parameter has a gradient in some groups and none in others"


class M3(GroupGradients):
    """Median of three group gradients. Keeps a running minimum and maximum a parameter."""

    @staticmethod
    def _take_in(state: dict, gradient: Tensor, number: int) -> None:
        low, high = (_buffer(state, name, gradient) for name in ("direction", "high"))
        if number == 0:
            low.copy_(gradient)
        elif number == 1:
            high.copy_(gradient)
            order_(low, high)
        else:
            median_from_ordered_(low, high, gradient)


class A3(GroupGradients):
    """Mean of three group gradients."""

    @staticmethod
    def _take_in(state: dict, gradient: Tensor, number: int) -> None:
        total = _buffer(state, "direction", gradient)
        if number == 0:
            total.copy_(gradient)
        else:
            total.add_(gradient)
        if number == NUM_GROUPS - 1:
            total.div_(NUM_GROUPS)


def _buffer(state: dict, name: str, like: Tensor) -> Tensor:
    """A tensor of the state, made once."""
    if name not in state:
        state[name] = torch.empty_like(like)
    return state[name]

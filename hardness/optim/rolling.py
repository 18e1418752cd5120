"""RM3 and RA3: the median, or the average, of this step's gradient and the previous two.

Zielinski, Krishnan, Chatterjee, arXiv:2003.07422v2 (2020). RA3 is the control for RM3: whatever RM3 does
beyond it is due to the median, not to the averaging. No step is taken until three gradients have been seen.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hardness.optim.median import median_from_ordered_
from hardness.optim.three import ThreeGradients


class _Rolling(ThreeGradients):
    """Keeps two gradients a parameter. From the third on, the newest is written over the oldest."""

    _combine_: Callable[[Tensor, Tensor, Tensor], Tensor]
    """(older, previous, this gradient) -> the direction, written over the first."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Any:
        """Take in each parameter's gradient; move it along the statistic of its last three."""
        loss = self._closure_loss(closure)
        for parameter, group, state, gradient in self._arrived():
            if "previous" not in state:
                state["previous"] = gradient.clone()
            elif "older" not in state:
                state["older"], state["previous"] = state["previous"], gradient.clone()
            else:
                older, previous = state["older"], state["previous"]
                self._move(parameter, group, state, self._combine_(older, previous, gradient))
                state["older"], state["previous"] = previous, older.copy_(gradient)
        return loss


class RM3(_Rolling):
    """Rolling median of three: robust against a direction that only one mini-batch in three has."""

    @staticmethod
    def _combine_(older: Tensor, previous: Tensor, gradient: Tensor) -> Tensor:
        high = torch.maximum(older, previous)
        return median_from_ordered_(torch.minimum(older, previous, out=older), high, gradient)


class RA3(_Rolling):
    """Rolling average of three."""

    @staticmethod
    def _combine_(older: Tensor, previous: Tensor, gradient: Tensor) -> Tensor:
        return older.add_(previous).add_(gradient).div_(3)

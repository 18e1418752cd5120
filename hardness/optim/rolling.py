"""RM3 and RA3: the median, or the average, of this step's gradient and the previous two.

Zielinski, Krishnan, Chatterjee, arXiv:2003.07422v2 (2020). RA3 is the control for RM3: whatever RM3 does
beyond it is due to the median, not to the averaging. No step is taken until three gradients have been seen.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from hardness.optim.median import median_of_three
from hardness.optim.three import ThreeGradients


class _Rolling(ThreeGradients):
    _combine: Callable[[Tensor, Tensor, Tensor], Tensor]
    """Three gradients, oldest first -> the direction."""

    @torch.no_grad()
    def step(self, closure=None):
        """Take in each parameter's gradient; move it along the statistic of its last three."""
        loss = self._closure_loss(closure)
        for parameter, group, state, gradient in self._arrived():
            older, previous = state.get("older"), state.get("previous")
            if older is not None:
                self._move(parameter, group, state, self._combine(older, previous, gradient))
            if previous is not None:
                state["older"] = previous
            state["previous"] = gradient
        return loss


class RM3(_Rolling):
    """Rolling median of three: robust against a direction that only one mini-batch in three has."""

    _combine = staticmethod(median_of_three)


class RA3(_Rolling):
    """Rolling average of three."""

    @staticmethod
    def _combine(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return (a + b + c) / 3

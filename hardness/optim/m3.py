"""M3: the median of three group gradients of one mini-batch.

Zielinski, Krishnan, Chatterjee, arXiv:2003.07422v2 (2020). Group g is the examples whose position in the
mini-batch is g modulo 3.
"""

import torch

from hardness.optim.median import median_of_three
from hardness.optim.three import ThreeGradients

NUM_GROUPS = 3


class M3(ThreeGradients):
    """Median of three. Three times ``{backward(); optimizer.collect()}``, then ``optimizer.step()``."""

    def __init__(self, params, lr: float, weight_decay: float = 0.0, momentum: float = 0.0):
        super().__init__(params, lr, weight_decay, momentum)
        self._num_collected = 0

    @torch.no_grad()
    def collect(self) -> None:
        """Take in the gradients of one group and clear ``.grad``."""
        if self._num_collected == NUM_GROUPS:
            raise RuntimeError(f"M3 has {NUM_GROUPS} gradients: call step() before the next collect()")
        for parameter, _, state, gradient in self._arrived():
            state.setdefault("collected", []).append(gradient)
            parameter.grad = None
        self._num_collected += 1

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """Move every parameter along the median; needs exactly three collects."""
        if closure is not None:
            raise RuntimeError("M3 takes no closure: three gradients need three calls of collect()")
        if self._num_collected != NUM_GROUPS:
            raise RuntimeError(f"M3 needs {NUM_GROUPS} collects before a step, not {self._num_collected}")
        for group in self.param_groups:
            for parameter in group["params"]:
                gradients = self.state[parameter].pop("collected", [])
                if len(gradients) == NUM_GROUPS:
                    self._move(parameter, group, self.state[parameter], median_of_three(*gradients))
                elif gradients:
                    raise RuntimeError("M3: a parameter had a gradient in some groups and none in others")
        self._num_collected = 0

    def state_dict(self) -> dict:
        return {**super().state_dict(), "num_collected": self._num_collected}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict({key: state_dict[key] for key in ("state", "param_groups")})
        self._num_collected = state_dict["num_collected"]

"""M3 and A3: the median, or the mean, of three group gradients of one mini-batch.

Zielinski, Krishnan, Chatterjee, arXiv:2003.07422v2 (2020). Group g is the examples whose position in the
global mini-batch is g modulo 3. A3 is the control for M3: the same forward passes (batch normalisation sees
groups, not the batch), the mean instead of the median.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from hardness.optim.kernels import Kernel, arrived, keep_, move_, run
from hardness.optim.median import median_from_ordered_, order_
from hardness.optim.three import Alike, ThreeGradients, asks_for_state

NUM_GROUPS = 3


def num_groups(optimizer: Optimizer) -> int:
    """How many group gradients a step of the optimizer takes: 3 with ``collect()``, else 1."""
    return NUM_GROUPS if hasattr(optimizer, "collect") else 1


class GroupGradients(ThreeGradients):
    """Three times ``{backward(); optimizer.collect()}``, then ``optimizer.step()``; M3 and A3.

    Clip before ``collect()``, and each group's gradient is clipped; to clip the direction, or to step through
    a ``GradScaler``, call ``direction_to_grad()`` after the third.

    Under DDP and FSDP2 each rank passes its examples of group g. For the group's mean over all ranks their
    summed loss is divided by the group's global size and multiplied by the number of ranks, by which the
    gradients are divided; ``hardness.training.step.train_step`` does that.
    """

    _second_: Kernel
    _third_: Kernel
    """(parameters, gradients, *buffers): take in the second group; the third, which makes the direction."""
    _is_handed_over = False

    @property
    def _num_collected(self) -> int:
        """Groups since the last step; kept with the parameter groups, so that state_dict() holds it."""
        return self.param_groups[0].setdefault("num_collected", 0)

    @torch.no_grad()
    def collect(self) -> None:
        """Take in the gradients of one group and clear ``.grad``.

        Raises ``RuntimeError`` where a step is due, or where a parameter has a gradient in some groups only.
        """
        if self._is_handed_over:
            # The step was skipped, as a GradScaler does after an overflow.
            self._begin_anew()
        number = self._num_collected
        if number == NUM_GROUPS:
            raise RuntimeError(f"{self._name} has {NUM_GROUPS} gradients: call step() before collect()")
        arrived = [(group, self._arrived(group)) for group in self.param_groups]
        if any(alike.num_seen != number for _, kinds in arrived for alike in kinds):
            raise RuntimeError(self._uneven)
        for group, kinds in arrived:
            for alike in kinds:
                self._take_in(alike, group, number)
                alike.count(number + 1)
            for parameter in group["params"]:
                parameter.grad = None
        self.param_groups[0]["num_collected"] = number + 1

    def direction_to_grad(self) -> None:
        """After the third ``collect()``: put the direction into ``.grad``, for clipping or a GradScaler.

        ``step()`` goes along whatever is there by then. Raises ``RuntimeError`` but after three collects.
        """
        if self._num_collected != NUM_GROUPS:
            found = self._num_collected
            raise RuntimeError(f"{self._name} needs {NUM_GROUPS} collects before a step, not {found}")
        seen = {parameter: state["num_seen"] for parameter, state in self.state.items() if state["num_seen"]}
        if set(seen.values()) - {NUM_GROUPS}:
            raise RuntimeError(self._uneven)
        for parameter in seen:
            parameter.grad = self.state[parameter]["direction"]
        self._is_handed_over = True

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move every parameter along the direction. Raises ``RuntimeError`` but after three collects."""
        if closure is not None:
            raise RuntimeError(f"{self._name} takes no closure: three gradients need three collects")
        if asks_for_state(self):
            self.make_state()
            return
        if not self._is_handed_over:
            self.direction_to_grad()
        for group in self.param_groups:
            for alike in self._arrived(group):
                columns = alike.parameters, alike.gradients, alike.momenta(group)
                run(move_, columns, group, lr=group["lr"], momentum=group["momentum"])
        self.restore_gradients()

    # What `robust` calls before and after the step of its base.
    replace_gradients = direction_to_grad

    def restore_gradients(self) -> None:
        """Clear ``.grad`` and begin anew."""
        for parameter in self.state:
            parameter.grad = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        for state in self.state.values():
            state["num_seen"] = 0
        self.param_groups[0]["num_collected"] = 0
        self._is_handed_over = False

    def _take_in(self, alike: Alike, group: dict, number: int) -> None:
        settings = {"weight_decay": group["weight_decay"], "maximize": group["maximize"]}
        if number == 0:
            keep_(alike.parameters, alike.gradients, *alike.buffers("direction"), **settings)
        else:
            kernel = self._second_ if number == 1 else self._third_
            columns = alike.parameters, alike.gradients, *alike.buffers(*self._buffers)
            run(kernel, columns, group, **settings)

    @property
    def _uneven(self) -> str:
        return f"{self._name}: a parameter has a gradient in some groups and none in others"


def _order_in_(
    parameters: list[Tensor], gradients: list[Tensor], low: list[Tensor], high: list[Tensor], **settings: Any
) -> None:
    torch._foreach_copy_(high, arrived(parameters, gradients, **settings))
    order_(low, high)


def _median_in_(
    parameters: list[Tensor], gradients: list[Tensor], low: list[Tensor], high: list[Tensor], **settings: Any
) -> None:
    median_from_ordered_(low, high, arrived(parameters, gradients, **settings))


def _add_in_(parameters: list[Tensor], gradients: list[Tensor], total: list[Tensor], **settings: Any) -> None:
    torch._foreach_add_(total, arrived(parameters, gradients, **settings))


def _mean_in_(*columns: list[Tensor], **settings: Any) -> None:
    _add_in_(*columns, **settings)
    torch._foreach_div_(columns[-1], float(NUM_GROUPS))


class M3(GroupGradients):
    """Median of three group gradients. Keeps a running minimum and maximum a parameter.

    Settings: those of ``ThreeGradients``; how to drive, clip and scale it: ``GroupGradients``. nan
    propagates; one infinity of three is outvoted.
    """

    _buffers = ("direction", "high")
    _second_ = staticmethod(_order_in_)
    _third_ = staticmethod(_median_in_)


class A3(GroupGradients):
    """Mean of three group gradients: the control for ``M3``, used in the same way."""

    _buffers = ("direction",)
    _second_ = staticmethod(_add_in_)
    _third_ = staticmethod(_mean_in_)

"""M3 and A3: the median, or the mean, of three group gradients of one mini-batch.

Zielinski, Krishnan, Chatterjee, arXiv:2003.07422v2 (2020). Group g is the examples whose position in the
global mini-batch is g modulo 3. A3 is the control for M3: the same forward passes (batch normalisation sees
groups, not the batch), the mean instead of the median. Weight decay is added to the direction: the same as to
each group's gradient, since the parameter is the same for all three.
"""

import torch
from torch import Tensor
from torch.nn import Parameter

from hardness.optim.kernels import Kernel, Rate, arrived, move_, run
from hardness.optim.median import median_from_ordered_, order_
from hardness.optim.requirements import Requirements
from hardness.optim.three import ThreeGradients, asks_for_state, rates

NUM_GROUPS = 3


class GroupGradients(ThreeGradients):
    """Three times ``{backward(); optimizer.collect()}``, then ``optimizer.step()``; M3 and A3.

    Clip before ``collect()``, and each group's gradient is clipped; to clip the direction, or to step through
    a ``GradScaler``, call ``direction_to_grad()`` after the third. The scaler may skip the step: call
    ``zero_grad()`` before the next batch. ``discard()`` drops what a batch that goes no further has left.

    Under DDP and FSDP2 each rank passes its examples of group g. For the group's mean over all ranks their
    summed loss is divided by the group's global size and multiplied by the number of ranks, by which the
    gradients are divided; ``hardness.training.step.train_step`` does that.
    """

    requirements = Requirements(num_groups=NUM_GROUPS, min_batch_size=NUM_GROUPS)
    _second_: Kernel
    _third_: Kernel
    """(gradients, *buffers): take in the second group; the third. The first buffer becomes the direction."""

    @torch.no_grad()
    def collect(self) -> None:
        """Take in the gradients of one group and clear ``.grad``.

        Raises ``RuntimeError`` where a step is due, where a parameter has a gradient in some groups only, and
        where ``.grad`` held the direction of a skipped step.
        """
        if self.is_handed_over:
            self._forget_skipped_step()
        number = self._num_collected
        if number == NUM_GROUPS:
            raise RuntimeError(
                f"{self._name} has {NUM_GROUPS} gradients: call step(), or discard(), before collect()"
            )
        kinds = [(group, alike) for group in self.param_groups for alike in self._arrived(group)]
        if any(alike.num_seen != number for _, alike in kinds):
            raise RuntimeError(self._uneven)
        for group, alike in kinds:
            buffers = alike.buffers(*self._buffers)
            if number == 0:
                torch._foreach_copy_(buffers[0], alike.gradients)
            else:
                run(self._second_ if number == 1 else self._third_, [alike.gradients, *buffers], group)
            alike.count(number + 1)
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def direction_to_grad(self) -> None:
        """After the third ``collect()``: put the direction into ``.grad``, for clipping or a GradScaler.

        ``step()`` goes along whatever is there by then. Raises ``RuntimeError`` but after three collects.
        """
        found = self._num_collected
        if found != NUM_GROUPS:
            raise RuntimeError(f"{self._name} needs {NUM_GROUPS} collects before a step, not {found}")
        collected = {parameter: state for parameter, state in self.state.items() if state.get("num_seen")}
        if any(state["num_seen"] != NUM_GROUPS for state in collected.values()):
            raise RuntimeError(self._uneven)
        if any(parameter.grad is not None for parameter in self._parameters):
            raise RuntimeError(f"{self._name}: there is a gradient that no collect() has taken in")
        self.discard()
        for parameter, state in collected.items():
            parameter.grad = state["direction"]
        self.is_handed_over = True

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move every parameter along the direction. Raises ``RuntimeError`` but after three collects."""
        if closure is not None:
            raise RuntimeError(f"{self._name} takes no closure: three gradients need three collects")
        if not self.is_handed_over and asks_for_state(self):
            self.make_state()
            return
        self.replace_gradients()
        for group in self.param_groups:
            for alike in self._arrived(group):
                columns = alike.parameters, alike.gradients, alike.momenta(group)
                run(_step_, columns, group, **rates(group))
        self.restore_gradients()

    def discard(self) -> None:
        """Drop the groups that were collected since the last step."""
        for state in self.state.values():
            if state:
                state["num_seen"] = 0
        self.is_handed_over = False

    def replace_gradients(self) -> None:
        """What a step, and that of a base in ``robust``, begins with: the direction is in ``.grad``."""
        if not self.is_handed_over:
            self.direction_to_grad()
        elif all(parameter.grad is None for parameter in self._parameters):
            raise RuntimeError(f"{self._name}: zero_grad() has taken the direction away; collect anew")

    def restore_gradients(self) -> None:
        """What it ends with: ``.grad`` is clear."""
        for parameter in self._parameters:
            parameter.grad = None
        self.is_handed_over = False

    @property
    def _num_collected(self) -> int:
        """Since the last step."""
        return max((state.get("num_seen", 0) for state in self.state.values()), default=0)

    @property
    def _parameters(self) -> list[Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _forget_skipped_step(self) -> None:
        """As a GradScaler skips one after an overflow."""
        if any(state and parameter.grad is state["direction"] for parameter, state in self.state.items()):
            raise RuntimeError(
                f"{self._name}: .grad still held the direction of a skipped step: call "
                "zero_grad(set_to_none=True) before backward()"
            )
        self.is_handed_over = False

    @property
    def _uneven(self) -> str:
        return f"{self._name}: a parameter has a gradient in some groups and none in others; discard() them"


def _step_(
    parameters: list[Tensor],
    directions: list[Tensor],
    momenta: list[Tensor],
    *,
    lr: Rate,
    weight_decay: Rate | None,
    momentum: Rate | None,
    maximize: bool,
) -> None:
    directions = arrived(parameters, directions, weight_decay, maximize)
    move_(parameters, directions, momenta, lr=lr, momentum=momentum)


def _order_in_(gradients: list[Tensor], low: list[Tensor], high: list[Tensor]) -> None:
    torch._foreach_copy_(high, gradients)
    order_(low, high)


def _median_in_(gradients: list[Tensor], low: list[Tensor], high: list[Tensor]) -> None:
    median_from_ordered_(low, high, gradients)


def _add_in_(gradients: list[Tensor], total: list[Tensor]) -> None:
    torch._foreach_add_(total, gradients)


def _mean_in_(gradients: list[Tensor], total: list[Tensor]) -> None:
    torch._foreach_add_(total, gradients)
    torch._foreach_div_(total, float(NUM_GROUPS))


class M3(GroupGradients):
    """Median of three group gradients. Keeps a running minimum and maximum a parameter.

    Settings: those of ``ThreeGradients``; how to drive, clip and scale it: ``GroupGradients``. nan
    propagates; one infinity of three is outvoted.
    """

    _buffers = ("direction", "high")
    _second_ = staticmethod(_order_in_)
    _third_ = staticmethod(_median_in_)


class A3(GroupGradients):
    """Mean of three group gradients: the control for ``M3``, used in the same way.

    It adds before it divides: in float16 a sum past 65,504 is infinite.
    """

    _buffers = ("direction",)
    _second_ = staticmethod(_add_in_)
    _third_ = staticmethod(_mean_in_)

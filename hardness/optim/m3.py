"""M3 and A3: the median, or the mean, of three group gradients of one mini-batch.

Zielinski, Krishnan, Chatterjee, arXiv:2003.07422v2 (2020). Group g is the examples whose position in the
global mini-batch is g modulo 3. A3 is the control for M3: the same forward passes (batch normalization sees
groups, not the batch), but the mean instead of the median. Weight decay is added to the direction, which is
equivalent to adding it to each group's gradient, since the parameter is the same for all three.
"""

import torch
from torch.nn import Parameter

from hardness.optim.base import ThreeGradients, only_initializes_state, rates
from hardness.optim.kernels import Kernel, Rate, Tensors, move_, run, with_decay
from hardness.optim.median import median_from_ordered_
from hardness.optim.requirements import Requirements
from hardness.registry import OPTIMIZERS

NUM_GROUPS = 3


class GroupGradients(ThreeGradients):
    """Base of M3 and A3: three times ``{backward(); optimizer.collect()}``, then ``optimizer.step()``.

    Clipping before ``collect()`` clips each group's gradient. To clip the direction, or to use a
    ``GradScaler``, call ``direction_to_grad()`` after the third ``collect()``. The scaler may skip the step:
    call ``zero_grad()`` before the next batch. ``discard()`` drops the groups of an abandoned batch.

    Under DDP and FSDP2 each rank passes its examples of group g. To get the group's mean over all ranks,
    divide their summed loss by the group's global size and multiply it by the number of ranks, by which DDP
    divides the gradients; ``hardness.training.step.train_step`` does this.
    """

    requirements = Requirements(num_groups=NUM_GROUPS, min_batch_size=NUM_GROUPS)
    _second_: Kernel
    _third_: Kernel
    """(*buffers, gradients): add the second group; add the third. The first buffer becomes the direction."""

    @torch.no_grad()
    def collect(self) -> None:
        """Add the gradients of one group and clear ``.grad``.

        Raises ``RuntimeError`` after three groups without a step, if a parameter has a gradient in some
        groups only, and if ``.grad`` held the direction of a skipped step.
        """
        if self.is_handed_over:
            self._forget_skipped_step()
        number = self._num_collected
        if number == NUM_GROUPS:
            raise RuntimeError(
                f"{self._name} has {NUM_GROUPS} gradients: call step() or discard() before collect()"
            )
        buckets = [(group, bucket) for group in self.param_groups for bucket in self._buckets(group)]
        if any(bucket.num_seen != number for _, bucket in buckets):
            raise RuntimeError(self._uneven)
        for group, bucket in buckets:
            buffers = bucket.buffers(*self._buffers)
            if number == 0:
                torch._foreach_copy_(buffers[0], bucket.gradients)
            else:
                run(self._second_ if number == 1 else self._third_, [*buffers, bucket.gradients], group)
            bucket.set_num_seen(number + 1)
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def direction_to_grad(self) -> None:
        """After the third ``collect()``: put the direction into ``.grad``, for clipping or a GradScaler.

        ``step()`` then uses ``.grad``. Raises ``RuntimeError`` unless three groups were collected.
        """
        number = self._num_collected
        if number != NUM_GROUPS:
            raise RuntimeError(f"{self._name} needs {NUM_GROUPS} collects before a step, not {number}")
        collected = {parameter: state for parameter, state in self.state.items() if state.get("num_seen")}
        if any(state["num_seen"] != NUM_GROUPS for state in collected.values()):
            raise RuntimeError(self._uneven)
        if any(parameter.grad is not None for parameter in self._parameters):
            raise RuntimeError(f"{self._name}: a gradient was not collected: call collect() after backward()")
        self.discard()
        for parameter, state in collected.items():
            parameter.grad = state["direction"]
        self.is_handed_over = True

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every parameter. Raises ``RuntimeError`` unless three groups were collected."""
        if closure is not None:
            raise RuntimeError(f"{self._name} takes no closure: call collect() for each of three gradients")
        if not self.is_handed_over and only_initializes_state(self):
            self.make_state()
            return
        self.replace_gradients()
        for group in self.param_groups:
            for bucket in self._buckets(group):
                columns = bucket.parameters, bucket.gradients, bucket.momenta(group)
                run(_step_, columns, group, **rates(group))
        self.restore_gradients()

    def discard(self) -> None:
        """Drop the groups collected since the last step."""
        for state in self.state.values():
            if state:
                state["num_seen"] = 0
        self.is_handed_over = False

    def replace_gradients(self) -> None:
        """Put the direction into ``.grad`` unless it is there: the start of a step (also in ``robust``)."""
        if not self.is_handed_over:
            self.direction_to_grad()
        elif all(parameter.grad is None for parameter in self._parameters):
            raise RuntimeError(f"{self._name}: zero_grad() cleared the direction: collect three groups again")

    def restore_gradients(self) -> None:
        """Clear ``.grad``: the end of a step."""
        for parameter in self._parameters:
            parameter.grad = None
        self.is_handed_over = False

    @property
    def _num_collected(self) -> int:
        """Number of groups since the last step."""
        return max((state.get("num_seen", 0) for state in self.state.values()), default=0)

    @property
    def _parameters(self) -> list[Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _forget_skipped_step(self) -> None:
        """A GradScaler skips a step after an overflow."""
        if any(state and parameter.grad is state["direction"] for parameter, state in self.state.items()):
            raise RuntimeError(
                f"{self._name}: .grad still held the direction of a skipped step: call "
                "zero_grad(set_to_none=True) before backward()"
            )
        self.is_handed_over = False

    @property
    def _uneven(self) -> str:
        return f"{self._name}: a parameter has a gradient in some groups but not in others: call discard()"


def _step_(
    parameters: Tensors,
    directions: Tensors,
    momenta: Tensors,
    *,
    lr: Rate,
    weight_decay: Rate | None,
    momentum: Rate | None,
    maximize: bool,
) -> None:
    directions = with_decay(parameters, directions, weight_decay, maximize)
    move_(parameters, directions, momenta, lr=lr, momentum=momentum)


def _order_in_(low: Tensors, high: Tensors, gradients: Tensors) -> None:
    torch._foreach_copy_(high, torch._foreach_maximum(low, gradients))
    torch._foreach_minimum_(low, gradients)


def _add_in_(total: Tensors, gradients: Tensors) -> None:
    torch._foreach_add_(total, gradients)


def _mean_in_(total: Tensors, gradients: Tensors) -> None:
    torch._foreach_add_(total, gradients)
    torch._foreach_div_(total, float(NUM_GROUPS))


@OPTIMIZERS.register("m3", is_method=True, is_robust=True, controls=("a3",), color="#0072B2")
class M3(GroupGradients):
    """Median of three group gradients. Its state is a running minimum and maximum per parameter.

    Settings: see ``ThreeGradients``; use, clipping and scaling: see ``GroupGradients``. nan propagates; a
    single infinity of three is ignored.
    """

    _buffers = ("direction", "high")
    _second_ = staticmethod(_order_in_)
    _third_ = staticmethod(median_from_ordered_)


@OPTIMIZERS.register("a3", is_method=True, is_robust=True, color="#56B4E9")
class A3(GroupGradients):
    """Mean of three group gradients: the control for ``M3``, used in the same way.

    It sums before it divides: in float16 a sum above 65,504 is infinite.
    """

    _buffers = ("direction",)
    _second_ = staticmethod(_add_in_)
    _third_ = staticmethod(_mean_in_)

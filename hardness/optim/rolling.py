"""RM3 and RA3: the median, or the average, of this step's gradient and the previous two; and RA3 scaled.

Zielinski, Krishnan, Chatterjee, arXiv:2003.07422v2 (2020). RA3 is the control for RM3: any difference is due
to the median, not to averaging. No step is taken until three gradients have been seen.

Memory traffic per parameter is six numbers: read the parameter, its gradient and the two previous ones; write
the parameter, and the gradient over the oldest one.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from hardness.optim.base import ParameterBucket, ThreeGradients, loss_of, only_initializes_state, rates
from hardness.optim.kernels import Kernel, Rate, Tensors, move_, run, run_foreach, with_decay
from hardness.optim.median import median_from_ordered_, median_of_three
from hardness.registry import OPTIMIZERS

_NUM_KEPT = 2
"""Gradients that are kept; state["num_seen"] counts up to it."""


class _Rolling(ThreeGradients):
    """Keeps two gradients per parameter. From the third step on, the newest overwrites the oldest.

    Weight decay times the parameter is added to a new gradient before it is stored.
    """

    _buffers = ("older", "previous")
    _step_: Kernel
    """(parameters, gradients, older, previous, momenta): update, and write the gradients over the older."""
    _filter_: Kernel
    """(gradients, older, previous): write the direction over the gradients, without an update."""
    _removed = ()

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Any:
        """Add each parameter's gradient, and update it along the statistic of its last three."""
        loss = loss_of(closure)
        if only_initializes_state(self):
            self.make_state()
            return loss
        self._move(
            (bucket, group)
            for group in self.param_groups
            for bucket in self._buckets(group)
            if not self._keep(bucket, group)
        )
        return loss

    def _move(self, ready: Iterable[tuple[ParameterBucket, dict[str, Any]]]) -> None:
        """Update the parameters that have seen three gradients, each with its group's settings."""
        for bucket, group in ready:
            columns = bucket.parameters, bucket.gradients, *bucket.buffers(*self._buffers)
            settings = {**rates(group), "capturable": group["capturable"]}
            run(self._step_, [*columns, bucket.momenta(group)], group, **settings)
            self._swap_buffers(bucket, group)

    @torch.no_grad()
    def replace_gradients(self) -> None:
        """Write each parameter's direction into its ``.grad``; if there is no direction yet, clear ``.grad``.

        For ``robust``: ``restore_gradients`` restores what was cleared.
        """
        self._removed = []
        for group in self.param_groups:
            buckets = self._buckets(group)
            for parameter in group["params"]:
                if parameter.grad is not None and self.state[parameter]["num_seen"] < _NUM_KEPT:
                    self._removed.append((parameter, parameter.grad))
            for bucket in buckets:
                if not self._keep(bucket, group):
                    columns = bucket.gradients, *bucket.buffers(*self._buffers)
                    run(self._filter_, columns, group, capturable=group["capturable"])
                    self._swap_buffers(bucket, group)
        for parameter, _ in self._removed:
            parameter.grad = None

    def restore_gradients(self) -> None:
        for parameter, gradient in self._removed:
            parameter.grad = gradient
        self._removed = ()

    def _keep(self, bucket: ParameterBucket, group: dict[str, Any]) -> bool:
        """Keep a first or a second gradient; False from the third on."""
        seen = bucket.num_seen
        capturing = bucket.parameters[0].is_cuda and torch.cuda.is_current_stream_capturing()
        if capturing and not (group["capturable"] and seen == _NUM_KEPT):
            raise RuntimeError(
                f"{self._name} in a CUDA graph needs capturable=True and three steps before the capture"
            )
        if seen == _NUM_KEPT:
            return False
        columns = bucket.parameters, bucket.gradients, *bucket.buffers(self._buffers[seen])
        settings = rates(group)
        decay, maximize = settings["weight_decay"], settings["maximize"]
        run_foreach(_keep_, columns, group, weight_decay=decay, maximize=maximize)
        bucket.set_num_seen(seen + 1)
        return True

    def _swap_buffers(self, bucket: ParameterBucket, group: dict[str, Any]) -> None:
        """The older buffer now has the newest gradient: it becomes the previous one."""
        if not group["capturable"]:
            for state in bucket.states:
                state["older"], state["previous"] = state["previous"], state["older"]


def _keep_(parameters: Tensors, gradients: Tensors, buffers: Tensors, **settings: Any) -> None:
    torch._foreach_copy_(buffers, with_decay(parameters, gradients, **settings))


def _median_(older: Tensors, previous: Tensors, gradients: Tensors) -> None:
    """Overwrites ``older``."""
    high = torch._foreach_maximum(older, previous)
    torch._foreach_minimum_(older, previous)
    median_from_ordered_(older, high, gradients)


def _average_(older: Tensors, previous: Tensors, gradients: Tensors) -> None:
    """Overwrites ``older``."""
    torch._foreach_add_(older, previous)
    torch._foreach_add_(older, gradients)
    torch._foreach_div_(older, 3.0)


def _roll_(
    combine_: Kernel,
    parameters: Tensors,
    gradients: Tensors,
    older: Tensors,
    previous: Tensors,
    momenta: Tensors,
    *,
    lr: Rate,
    weight_decay: Rate | None,
    momentum: Rate | None,
    maximize: bool,
    capturable: bool,
) -> None:
    gradients = with_decay(parameters, gradients, weight_decay, maximize)
    combine_(older, previous, gradients)
    move_(parameters, older, momenta, lr=lr, momentum=momentum)
    _store_(gradients, older, previous, capturable)


def _roll_into_gradients_(
    combine_: Kernel, gradients: Tensors, older: Tensors, previous: Tensors, *, capturable: bool
) -> None:
    newest = [gradient.clone() for gradient in gradients]
    combine_(older, previous, gradients)
    torch._foreach_copy_(gradients, older)
    _store_(newest, older, previous, capturable)


def _store_(gradients: Tensors, older: Tensors, previous: Tensors, capturable: bool) -> None:
    if capturable:
        # A CUDA graph replays fixed addresses: instead of swapping the buffers, move their contents.
        torch._foreach_copy_(older, previous)
        torch._foreach_copy_(previous, gradients)
    else:
        torch._foreach_copy_(older, gradients)


# One function per kernel, since each is compiled separately.
def _rm3_(*columns: Tensors, **settings: Any) -> None:
    _roll_(_median_, *columns, **settings)


def _ra3_(*columns: Tensors, **settings: Any) -> None:
    _roll_(_average_, *columns, **settings)


def _rm3_filter_(*columns: Tensors, **settings: Any) -> None:
    _roll_into_gradients_(_median_, *columns, **settings)


def _ra3_filter_(*columns: Tensors, **settings: Any) -> None:
    _roll_into_gradients_(_average_, *columns, **settings)


@OPTIMIZERS.register("rm3", is_method=True, is_robust=True, controls=("ra3", "ra3-scaled"), color="#D55E00")
class RM3(_Rolling):
    """Rolling median of three: robust against a direction that only one of three mini-batches has.

    Settings: see ``ThreeGradients``. nan propagates; a single infinity of three is ignored. Clipping before
    ``step()`` clips each gradient, not the median of three. Works unchanged with a ``GradScaler``, DDP and
    FSDP2.
    """

    _step_ = staticmethod(_rm3_)
    _filter_ = staticmethod(_rm3_filter_)


@OPTIMIZERS.register("ra3", is_method=True, is_robust=True, color="#E69F00")
class RA3(_Rolling):
    """Rolling average of three: the control for ``RM3``, used in the same way.

    It sums before it divides: in float16 a sum above 65,504 is infinite.
    """

    _step_ = staticmethod(_ra3_)
    _filter_ = staticmethod(_ra3_filter_)


@OPTIMIZERS.register("ra3-scaled", is_robust=True, color="#882255")
class ScaledRA3(_Rolling):
    """RA3 scaled to the L2 norm, over all parameters together, of RM3's direction.

    The control for whether RM3 does more than take shorter steps. Used in the same way, but only with foreach
    operations, without sharded parameters, and not in ``robust``. A zero average gives a zero step.

    Raises ``ValueError`` for fused and capturable; ``TypeError`` for sharded parameters.
    """

    def __init__(self, *args: Any, **settings: Any):
        super().__init__(*args, **settings)
        if any(group["fused"] or group["capturable"] for group in self.param_groups):
            raise ValueError("ScaledRA3 supports neither fused nor capturable: omit them")

    def _make(self, state: dict[str, Any], gradient: Tensor) -> None:
        if hasattr(gradient, "placements"):
            raise TypeError(
                f"{self._name} does not support sharded parameters: it needs norms over all ranks"
            )
        super()._make(state, gradient)

    def _move(self, ready: Iterable[tuple[ParameterBucket, dict[str, Any]]]) -> None:
        ready, averages, medians = list(ready), [], []
        for bucket, group in ready:
            decay, maximize = rates(group)["weight_decay"], group["maximize"]
            gradients = with_decay(bucket.parameters, bucket.gradients, decay, maximize)
            older, previous = bucket.buffers(*self._buffers)
            medians += map(median_of_three, older, previous, gradients)
            sums = torch._foreach_add(torch._foreach_add(older, previous), gradients)
            averages.append(torch._foreach_div(sums, 3.0))
            _store_(gradients, older, previous, capturable=False)
            self._swap_buffers(bucket, group)
        if not ready:
            return
        average = _norm([each for directions in averages for each in directions])
        scale = torch.where(average == 0, 0.0, _norm(medians) / average)
        for (bucket, group), directions in zip(ready, averages, strict=True):
            torch._foreach_mul_(directions, scale)
            settings = rates(group)
            momenta, momentum = bucket.momenta(group), settings["momentum"]
            move_(bucket.parameters, directions, momenta, lr=settings["lr"], momentum=momentum)


def _norm(tensors: Tensors) -> Tensor:
    """The L2 norm of all of them together, () float64."""
    return torch.stack([torch.linalg.vector_norm(each, dtype=torch.float64) for each in tensors]).norm()

"""RM3 and RA3: the median, or the average, of this step's gradient and the previous two; and RA3 scaled.

Zielinski, Krishnan, Chatterjee, arXiv:2003.07422v2 (2020). RA3 is the control for RM3: whatever RM3 does
beyond it is due to the median, not to the averaging. No step is taken until three gradients have been seen.

Six numbers of memory traffic a parameter: read it, its gradient and the two before; write it, and over the
older of these the gradient.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from hardness.optim.kernels import Kernel, Rate, arrived, move_, run, run_foreach
from hardness.optim.median import median_from_ordered_, median_of_three
from hardness.optim.three import Alike, ThreeGradients, asks_for_state, loss_of, rates

_NUM_KEPT = 2
"""Gradients kept; state["num_seen"] counts up to it."""


class _Rolling(ThreeGradients):
    """Keeps two gradients a parameter. From the third on, the newest is written over the oldest.

    Weight decay times the parameter is added to a gradient when it arrives, before it is stored.
    """

    _buffers = ("older", "previous")
    _step_: Kernel
    """(parameters, gradients, older, previous, momenta): step, and write the gradients over the older."""
    _filter_: Kernel
    """(gradients, older, previous): the direction goes into the gradients, and no parameter moves."""
    _taken = ()

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Any:
        """Take in each parameter's gradient; move it along the statistic of its last three."""
        loss = loss_of(closure)
        if asks_for_state(self):
            self.make_state()
            return loss
        self._move(
            (alike, group)
            for group in self.param_groups
            for alike in self._arrived(group)
            if not self._keep(alike, group)
        )
        return loss

    def _move(self, ready: Iterable[tuple[Alike, dict[str, Any]]]) -> None:
        """Move the parameters of which three gradients have been seen, each with its group's settings."""
        for alike, group in ready:
            columns = alike.parameters, alike.gradients, *alike.buffers(*self._buffers)
            settings = {**rates(group), "capturable": group["capturable"]}
            run(self._step_, [*columns, alike.momenta(group)], group, **settings)
            self._take_turns(alike, group)

    @torch.no_grad()
    def replace_gradients(self) -> None:
        """Write each parameter's direction into its ``.grad``; where there is none yet, take ``.grad`` away.

        For ``robust``: ``restore_gradients`` gives back what was taken.
        """
        self._taken = []
        for group in self.param_groups:
            arrived = self._arrived(group)
            for parameter in group["params"]:
                if parameter.grad is not None and self.state[parameter]["num_seen"] < _NUM_KEPT:
                    self._taken.append((parameter, parameter.grad))
            for alike in arrived:
                if not self._keep(alike, group):
                    columns = alike.gradients, *alike.buffers(*self._buffers)
                    run(self._filter_, columns, group, capturable=group["capturable"])
                    self._take_turns(alike, group)
        for parameter, _ in self._taken:
            parameter.grad = None

    def restore_gradients(self) -> None:
        for parameter, gradient in self._taken:
            parameter.grad = gradient
        self._taken = ()

    def _keep(self, alike: Alike, group: dict[str, Any]) -> bool:
        """Keep a first or a second gradient; False from the third on."""
        seen = alike.num_seen
        capturing = alike.parameters[0].is_cuda and torch.cuda.is_current_stream_capturing()
        if capturing and not (group["capturable"] and seen == _NUM_KEPT):
            raise RuntimeError(
                f"to capture {self._name}: capturable=True, and three steps before the capture"
            )
        if seen == _NUM_KEPT:
            return False
        columns = alike.parameters, alike.gradients, *alike.buffers(self._buffers[seen])
        settings = rates(group)
        decay, maximize = settings["weight_decay"], settings["maximize"]
        run_foreach(_keep_, columns, group, weight_decay=decay, maximize=maximize)
        alike.count(seen + 1)
        return True

    def _take_turns(self, alike: Alike, group: dict[str, Any]) -> None:
        """What was written over the older is now the previous one."""
        if not group["capturable"]:
            for state in alike.states:
                state["older"], state["previous"] = state["previous"], state["older"]


def _keep_(parameters: list[Tensor], gradients: list[Tensor], buffers: list[Tensor], **settings: Any) -> None:
    torch._foreach_copy_(buffers, arrived(parameters, gradients, **settings))


def _median_(older: list[Tensor], previous: list[Tensor], gradients: list[Tensor]) -> None:
    """Written over the older."""
    high = torch._foreach_maximum(older, previous)
    torch._foreach_minimum_(older, previous)
    median_from_ordered_(older, high, gradients)


def _average_(older: list[Tensor], previous: list[Tensor], gradients: list[Tensor]) -> None:
    """Written over the older."""
    torch._foreach_add_(older, previous)
    torch._foreach_add_(older, gradients)
    torch._foreach_div_(older, 3.0)


def _roll_(
    combine_: Kernel,
    parameters: list[Tensor],
    gradients: list[Tensor],
    older: list[Tensor],
    previous: list[Tensor],
    momenta: list[Tensor],
    *,
    lr: Rate,
    weight_decay: Rate | None,
    momentum: Rate | None,
    maximize: bool,
    capturable: bool,
) -> None:
    gradients = arrived(parameters, gradients, weight_decay, maximize)
    combine_(older, previous, gradients)
    move_(parameters, older, momenta, lr=lr, momentum=momentum)
    _store_(gradients, older, previous, capturable)


def _roll_into_gradients_(
    combine_: Kernel,
    gradients: list[Tensor],
    older: list[Tensor],
    previous: list[Tensor],
    *,
    capturable: bool,
) -> None:
    arrived = [gradient.clone() for gradient in gradients]
    combine_(older, previous, gradients)
    torch._foreach_copy_(gradients, older)
    _store_(arrived, older, previous, capturable)


def _store_(gradients: list[Tensor], older: list[Tensor], previous: list[Tensor], capturable: bool) -> None:
    if capturable:
        # A graph replays the same addresses: the buffers can't change roles, so their contents move.
        torch._foreach_copy_(older, previous)
        torch._foreach_copy_(previous, gradients)
    else:
        torch._foreach_copy_(older, gradients)


# A function a kernel, since each is compiled by itself.
def _rm3_(*columns: list[Tensor], **settings: Any) -> None:
    _roll_(_median_, *columns, **settings)


def _ra3_(*columns: list[Tensor], **settings: Any) -> None:
    _roll_(_average_, *columns, **settings)


def _rm3_filter_(*columns: list[Tensor], **settings: Any) -> None:
    _roll_into_gradients_(_median_, *columns, **settings)


def _ra3_filter_(*columns: list[Tensor], **settings: Any) -> None:
    _roll_into_gradients_(_average_, *columns, **settings)


class RM3(_Rolling):
    """Rolling median of three: robust against a direction that only one mini-batch in three has.

    Settings: those of ``ThreeGradients``. nan propagates; one infinity of three is outvoted. Clip ``.grad``
    before ``step()``, and each gradient is clipped as it arrives, not the median of three. With a
    ``GradScaler`` and under DDP and FSDP2 as it is.
    """

    _step_ = staticmethod(_rm3_)
    _filter_ = staticmethod(_rm3_filter_)


class RA3(_Rolling):
    """Rolling average of three: the control for ``RM3``, used in the same way.

    It adds before it divides: in float16 a sum past 65,504 is infinite.
    """

    _step_ = staticmethod(_ra3_)
    _filter_ = staticmethod(_ra3_filter_)


class ScaledRA3(_Rolling):
    """RA3 scaled to the L2 norm, over all parameters together, of RM3's direction.

    The control that says whether RM3 does more than take shorter steps: used in the same way, but by foreach
    operations alone, of parameters that are whole, and not for ``robust``. A zero average is a zero step.

    Raises ``ValueError`` for fused and capturable; ``TypeError`` for sharded parameters.
    """

    def __init__(self, *args: Any, **settings: Any):
        super().__init__(*args, **settings)
        if any(group["fused"] or group["capturable"] for group in self.param_groups):
            raise ValueError("ScaledRA3 steps by foreach operations alone: leave out fused and capturable")

    def _make(self, state: dict[str, Any], gradient: Tensor) -> None:
        if hasattr(gradient, "placements"):
            raise TypeError(f"{self._name} takes no sharded parameters: its norms are of whole ones")
        super()._make(state, gradient)

    def _move(self, ready: Iterable[tuple[Alike, dict[str, Any]]]) -> None:
        ready, averages, medians = list(ready), [], []
        for alike, group in ready:
            decay, maximize = rates(group)["weight_decay"], group["maximize"]
            gradients = arrived(alike.parameters, alike.gradients, decay, maximize)
            older, previous = alike.buffers(*self._buffers)
            medians += map(median_of_three, older, previous, gradients)
            sums = torch._foreach_add(torch._foreach_add(older, previous), gradients)
            averages.append(torch._foreach_div(sums, 3.0))
            _store_(gradients, older, previous, capturable=False)
            self._take_turns(alike, group)
        if not ready:
            return
        average = _norm([each for directions in averages for each in directions])
        scale = torch.where(average == 0, 0.0, _norm(medians) / average)
        for (alike, group), directions in zip(ready, averages, strict=True):
            torch._foreach_mul_(directions, scale)
            settings = rates(group)
            momenta, momentum = alike.momenta(group), settings["momentum"]
            move_(alike.parameters, directions, momenta, lr=settings["lr"], momentum=momentum)


def _norm(tensors: list[Tensor]) -> Tensor:
    """The L2 norm of all of them together, () float64."""
    return torch.stack([torch.linalg.vector_norm(each, dtype=torch.float64) for each in tensors]).norm()

"""The optimizers' arithmetic on lists of tensors: run as foreach operations, or compiled into one kernel.

A kernel is a function of lists of tensors (a column each, a row a parameter) and of settings. Here are those
that all optimizers share; the others live beside their optimizer.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from hardness.console import warn

Kernel = Callable[..., None]

_FUSED_FROM = 1_000_000
"""Parameters from which a CPU's memory traffic is worth the seconds that compiling takes."""
_CHUNK = 1 << 20
"""Numbers that foreach operations work on at once (or one parameter), which bounds their temporaries."""
_COMPILED_AT_MOST = 256
"""Lists of shapes, and settings, that a kernel is compiled for in one process; dynamo's own limit is 8."""
_failed: set[Kernel] = set()


def arrived(
    parameters: list[Tensor], gradients: list[Tensor], weight_decay: float, maximize: bool
) -> list[Tensor]:
    """The gradients as the optimizer counts them: negated to maximize, weight decay added."""
    if maximize:
        gradients = torch._foreach_neg(gradients)
    if weight_decay:
        decay = torch._foreach_mul(parameters, weight_decay)
        torch._foreach_add_(decay, gradients)
        return decay
    return gradients


def keep_(
    parameters: list[Tensor],
    gradients: list[Tensor],
    buffers: list[Tensor],
    *,
    weight_decay: float,
    maximize: bool,
) -> None:
    """Write the gradients, as counted, over the buffers."""
    torch._foreach_copy_(buffers, arrived(parameters, gradients, weight_decay, maximize))


def move_(
    parameters: list[Tensor],
    directions: list[Tensor],
    momenta: list[Tensor],
    *,
    lr: float | Tensor,
    momentum: float,
) -> None:
    """parameter -= lr * direction; with momentum, lr * its running sum.

    In two roundings, not one fused multiply-add, so that every way to run it gives the same bits.
    """
    if momentum:
        torch._foreach_mul_(momenta, momentum)
        torch._foreach_add_(momenta, directions)
        directions = momenta
    torch._foreach_sub_(parameters, torch._foreach_mul(directions, lr))


def run(kernel: Kernel, columns: Sequence[list[Tensor]], group: dict[str, Any], **settings: Any) -> None:
    """Run a kernel the way the parameter group asks for, or the faster one where it doesn't.

    columns: lists of equal length; an optional one may be empty. A compiled learning rate is a tensor, so
    that a schedule compiles nothing anew.
    """
    if kernel not in _failed and _is_fused(group, columns[0]):
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        try:
            with torch._dynamo.config.patch(recompile_limit=_COMPILED_AT_MOST):
                return _compiled(kernel)(*columns, **_with_tensor_rate(settings, like=columns[0][0]))
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            _failed.add(kernel)
            _tell_once(next(line for line in str(error).splitlines() if line.strip()))
    for chunk in _chunks(columns, 1 if group["foreach"] is False else _CHUNK):
        kernel(*chunk, **settings)


def _is_fused(group: dict[str, Any], parameters: list[Tensor]) -> bool:
    if group["fused"] is not None or group["foreach"] is not None:
        return bool(group["fused"])
    return parameters[0].is_cuda or sum(parameter.numel() for parameter in parameters) >= _FUSED_FROM


def _with_tensor_rate(settings: dict[str, Any], like: Tensor) -> dict[str, Any]:
    if not isinstance(settings.get("lr"), float | int):
        return settings
    # As a number meets tensors of half precision.
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    return {**settings, "lr": torch.full((), settings["lr"], dtype=dtype, device=like.device)}


@cache
def _compiled(kernel: Kernel) -> Kernel:
    return torch.compile(kernel, fullgraph=True, dynamic=False)


@cache
def _tell_once(reason: str) -> None:
    warn(f"the fused optimizer step can't be compiled ({reason}); going on with the slower foreach step")


def _chunks(columns: Sequence[list[Tensor]], limit: int) -> Iterator[list[list[Tensor]]]:
    """Cut the rows where their parameters pass ``limit`` numbers; a chunk has one row at least."""
    start = held = 0
    for row, parameter in enumerate(columns[0]):
        if row > start and held + parameter.numel() > limit:
            yield [column[start:row] for column in columns]
            start, held = row, 0
        held += parameter.numel()
    yield [column[start:] for column in columns]

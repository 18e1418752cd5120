"""The optimizers' arithmetic on lists of tensors: run as foreach operations, or compiled into one kernel.

A kernel is a function of columns (lists of tensors, a row a parameter) and of settings. Here are those that
all optimizers share; the others live beside their optimizer.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from hardness.console import remark, warn

Kernel = Callable[..., None]
Rate = float | Tensor
Columns = Sequence[list[Tensor]]
"""Lists of equal length; an optional one may be empty."""

_FUSED_FROM = 1_000_000
"""Parameters from which a CPU's memory traffic is worth the seconds that compiling takes."""
_CHUNK = 1 << 20
"""Numbers that foreach operations work on at once (or one parameter), which bounds their temporaries."""
_COMPILED_AT_MOST = 256
"""Lists of shapes that a kernel is compiled for in one process; dynamo's own limit is 8."""
_failed: set[Kernel] = set()


def arrived(
    parameters: list[Tensor], gradients: list[Tensor], weight_decay: Rate | None, maximize: bool
) -> list[Tensor]:
    """The gradients as the optimizer counts them: negated to maximize, weight decay added."""
    if maximize:
        gradients = torch._foreach_neg(gradients)
    if weight_decay is not None:
        gradients = torch._foreach_add(gradients, torch._foreach_mul(parameters, weight_decay))
    return gradients


def move_(
    parameters: list[Tensor],
    directions: list[Tensor],
    momenta: list[Tensor],
    *,
    lr: Rate,
    momentum: Rate | None,
) -> None:
    """parameter -= lr * direction; with momentum, lr * its running sum.

    In two roundings, not one fused multiply-add, so that every way to run it gives the same bits.
    """
    if momentum is not None:
        torch._foreach_mul_(momenta, momentum)
        torch._foreach_add_(momenta, directions)
        directions = momenta
    torch._foreach_sub_(parameters, torch._foreach_mul(directions, lr))


def run(kernel: Kernel, columns: Columns, group: dict[str, Any], **settings: Any) -> None:
    """Run a kernel the way the parameter group asks for, or the faster one where it doesn't.

    Compiled, its rates are tensors, so that a schedule compiles nothing anew.
    """
    if kernel not in _failed and _is_fused(group, columns[0]):
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        try:
            return _run_compiled(kernel, columns, _with_tensor_rates(settings, like=columns[0][0]))
        # OSError: a cache that can't be written.
        except (TorchDynamoException, FailOnRecompileLimitHit, OSError) as error:
            _failed.add(kernel)
            _tell_once(next(line for line in str(error).splitlines() if line.strip()))
    run_foreach(kernel, columns, group, **settings)


def run_foreach(kernel: Kernel, columns: Columns, group: dict[str, Any], **settings: Any) -> None:
    """Run a kernel on some rows at a time, or on one where the parameter group says foreach=False."""
    for chunk in _chunks(columns, 1 if group["foreach"] is False else _CHUNK):
        kernel(*chunk, **settings)


def _is_fused(group: dict[str, Any], tensors: list[Tensor]) -> bool:
    if group["fused"] is not None or group["foreach"] is not None:
        return bool(group["fused"])
    return tensors[0].is_cuda or sum(tensor.numel() for tensor in tensors) >= _FUSED_FROM


def _with_tensor_rates(settings: dict[str, Any], like: Tensor) -> dict[str, Any]:
    # In the precision in which a number meets tensors of half precision.
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32

    def as_tensor(value: Any) -> Any:
        return torch.full((), value, dtype=dtype, device=like.device) if isinstance(value, float) else value

    return {name: as_tensor(value) for name, value in settings.items()}


def _run_compiled(kernel: Kernel, columns: Columns, settings: dict[str, Any]) -> None:
    from torch._dynamo.exc import FailOnRecompileLimitHit

    try:
        _compiled(kernel)(*columns, **settings)
    except FailOnRecompileLimitHit:
        with torch._dynamo.config.patch(recompile_limit=_COMPILED_AT_MOST):
            _compiled(kernel)(*columns, **settings)


@cache
def _compiled(kernel: Kernel) -> Kernel:
    _say_once(
        "compiling the optimizer's step: seconds, or a minute for a deep network; later runs take it as it is"
    )
    return torch.compile(kernel, fullgraph=True, dynamic=False)


_say_once = cache(remark)


@cache
def _tell_once(reason: str) -> None:
    warn(f"the fused optimizer step can't be compiled ({reason}); going on with the slower foreach step")


def _chunks(columns: Columns, limit: int) -> Iterator[list[list[Tensor]]]:
    """Cut the rows where their parameters pass ``limit`` numbers; a chunk has one row at least."""
    start = held = 0
    for row, parameter in enumerate(columns[0]):
        if row > start and held + parameter.numel() > limit:
            yield [column[start:row] for column in columns]
            start, held = row, 0
        held += parameter.numel()
    yield [column[start:] for column in columns]

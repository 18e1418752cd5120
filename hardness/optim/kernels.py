"""The optimizers' arithmetic on lists of tensors: run as foreach operations, or compiled into one kernel.

A kernel is a function of columns (lists of tensors with one row per parameter) and of settings. This module
has the kernels that all optimizers share; the others are next to their optimizer.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from hardness.console import remark, warn

Tensors = list[Tensor]
Kernel = Callable[..., None]
Rate = float | Tensor
Columns = Sequence[Tensors]
"""Lists of equal length; an optional one may be empty."""

_FUSED_FROM = 1_000_000
"""Number of parameters from which, on a CPU, less memory traffic outweighs the seconds of compiling."""
_CHUNK = 1 << 20
"""Elements that foreach operations process at once (or one parameter), which bounds temporary memory."""
_COMPILED_AT_MOST = 256
"""Lists of shapes for which a kernel is compiled in one process; the default limit of dynamo is 8."""
_failed: set[Kernel] = set()
_remark_once, _warn_once = cache(remark), cache(warn)


def with_decay(parameters: Tensors, gradients: Tensors, weight_decay: Rate | None, maximize: bool) -> Tensors:
    """The gradients as the optimizer uses them: negated to maximize, weight decay added."""
    if maximize:
        gradients = torch._foreach_neg(gradients)
    if weight_decay is not None:
        gradients = torch._foreach_add(gradients, torch._foreach_mul(parameters, weight_decay))
    return gradients


def move_(
    parameters: Tensors, directions: Tensors, momenta: Tensors, *, lr: Rate, momentum: Rate | None
) -> None:
    """parameter -= lr * direction; with momentum, lr * its running sum.

    Rounds twice instead of using a fused multiply-add, so that every implementation gives the same bits.
    """
    if momentum is not None:
        torch._foreach_mul_(momenta, momentum)
        torch._foreach_add_(momenta, directions)
        directions = momenta
    torch._foreach_sub_(parameters, torch._foreach_mul(directions, lr))


def run(kernel: Kernel, columns: Columns, group: dict[str, Any], **settings: Any) -> None:
    """Run a kernel as the parameter group specifies, by default the faster way.

    If compiled, its rates are tensors, so that a schedule does not cause recompilation.
    """
    if kernel not in _failed and _is_fused(group, columns[0]):
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        try:
            return _run_compiled(kernel, columns, _with_tensor_rates(settings, like=columns[0][0]))
        # OSError: the compiler's cache is not writable.
        except (TorchDynamoException, FailOnRecompileLimitHit, OSError) as error:
            _failed.add(kernel)
            reason = next(line for line in str(error).splitlines() if line.strip())
            _warn_once(f"cannot compile the fused optimizer step ({reason}): using the slower foreach step")
    run_foreach(kernel, columns, group, **settings)


def run_foreach(kernel: Kernel, columns: Columns, group: dict[str, Any], **settings: Any) -> None:
    """Run a kernel on some rows at a time, or on a single row if the parameter group has foreach=False."""
    for chunk in _chunks(columns, 1 if group["foreach"] is False else _CHUNK):
        kernel(*chunk, **settings)


def _is_fused(group: dict[str, Any], tensors: Tensors) -> bool:
    if group["fused"] is not None or group["foreach"] is not None:
        return bool(group["fused"])
    return tensors[0].is_cuda or sum(tensor.numel() for tensor in tensors) >= _FUSED_FROM


def _with_tensor_rates(settings: dict[str, Any], like: Tensor) -> dict[str, Any]:
    # The precision in which a Python number is combined with half-precision tensors.
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
    _remark_once(
        "compiling the optimizer step: seconds, or a minute for a deep network; later runs use the cache"
    )
    return torch.compile(kernel, fullgraph=True, dynamic=False)


def _chunks(columns: Columns, limit: int) -> Iterator[list[Tensors]]:
    """Split the rows so that a chunk has at most ``limit`` elements, but at least one row."""
    start = held = 0
    for row, parameter in enumerate(columns[0]):
        if row > start and held + parameter.numel() > limit:
            yield [column[start:row] for column in columns]
            start, held = row, 0
        held += parameter.numel()
    yield [column[start:] for column in columns]

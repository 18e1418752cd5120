"""Per-example gradients, by torch.func: all of a batch at once, or of many examples in chunks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from hardness.datasets import Examples, Loader
from hardness.datasets.examples import Inputs, each_tensor
from hardness.datasets.loader import batches_of
from hardness.errors import UserError
from hardness.resources import Resources

_COPIES = 2
"""Peak memory over the size of all per-example gradients (1.7 measured)."""
_CHUNK_BYTES = {"cpu": 32 << 20, "cuda": 1 << 30}
"""Size of the gradients in one chunk: on a CPU more is no faster; on CUDA it was not measured."""


def per_example_gradients(
    model: nn.Module, inputs: Inputs, labels: Tensor
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Gradients of each example's cross-entropy, with torch.func.

    inputs: one or several tensors (B, ...), labels int64 (B,) -> ({parameter: (B, *shape)}, losses (B,),
    logits (B, C)). Raises ``UserError`` if batch normalization is in training mode, where an example's
    gradient depends on the others, and if there is not enough memory.
    """
    if any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training for module in model.modules()
    ):
        sentence = "Per-example gradients are undefined for a network with batch normalization."
        raise UserError("batch-norm-mixes-examples", sentence, "Use --model small_cnn or mlp.")
    parameters = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    _check_memory(len(labels), list(parameters.values()))

    def loss_of(parameters: dict[str, Tensor], example: Inputs, label: Tensor) -> tuple[Tensor, Any]:
        one = each_tensor(lambda tensor: tensor.unsqueeze(0), example)
        logits = functional_call(model, parameters, (one,))
        loss = F.cross_entropy(logits, label.unsqueeze(0))
        return loss, (loss, logits.squeeze(0))

    each = vmap(grad(loss_of, has_aux=True), in_dims=(None, 0, 0), randomness="different")
    gradients, (losses, logits) = each(parameters, inputs, labels)
    return gradients, losses.detach(), logits.detach()


def gradients_of(
    model: nn.Module, examples: Examples, ids: np.ndarray, resources: Resources
) -> Iterator[tuple[Tensor, dict[str, Tensor], Tensor]]:
    """Yield (example ids (B,), {parameter: (B, *shape)}, losses (B,)) in chunks, ordered as ``ids``.

    In evaluation mode: batch normalization uses its running statistics, so that a gradient depends on one
    example only.
    """
    model.eval()
    size = sum(value.numel() * value.element_size() for value in model.parameters() if value.requires_grad)
    chunk = max(_CHUNK_BYTES[resources.device.type] // size, 1)
    for inputs, labels, example_ids in Loader(
        examples, batches_of(ids, chunk), resources.device, resources.workers
    ):
        gradients, losses, _ = per_example_gradients(model, inputs, labels)
        yield example_ids, gradients, losses


def _check_memory(batch_size: int, parameters: list[Tensor]) -> None:
    needed = _COPIES * batch_size * sum(value.numel() * value.element_size() for value in parameters)
    available = _available(parameters[0].device)
    if available is not None and needed > available:
        raise UserError(
            "gradients-too-large",
            "Gradients of {batch_size} examples for {num_parameters:,} parameters need {needed:.1f} GiB of "
            "memory; {available:.1f} GiB are available.",
            "Use a smaller network or --batch-size.",
            batch_size=batch_size,
            num_parameters=sum(value.numel() for value in parameters),
            needed=needed / 2**30,
            available=available / 2**30,
        )


def _available(device: torch.device) -> int | None:
    """Bytes; None if unknown."""
    if device.type == "cuda":
        # Memory that torch has reserved but does not use is available as well.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return None
    lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024

"""What a Recorder is given: tensors, arrays or lists -> tensors of one batch."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_MOST_CLASSES = 1 << 24
"""Labels are stored as float32, which represents every integer up to this one."""
_INTEGERS = {getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)}


def as_batch(
    example_ids: Any, logits: Any, labels: Any, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Ids (B,) int64, logits (B, C), labels (B,) int64, or float32 if they were floats; all on ``device``.

    Accepts tensors, arrays and lists. A single column of logits z is a binary classifier's: it becomes the
    two columns 0 and z, and labels (B, 1) become (B,). Raises ``ValueError`` for wrong shapes and
    ``TypeError`` for wrong dtypes.
    """
    ids, logits, labels = map(as_tensor, ("example_ids", "logits", "labels"), (example_ids, logits, labels))
    is_binary = logits.ndim == 2 and logits.shape[1] == 1
    if is_binary and labels.shape == logits.shape:
        labels = labels.squeeze(1)
    _check(ids, logits, labels)
    # A copy to the host must block, or it would be read before it has arrived.
    move = {"device": device, "non_blocking": device.type == "cuda"}
    ids, logits, labels = ids.to(**move).long(), logits.detach().to(**move), labels.to(**move)
    if is_binary:
        logits = F.pad(logits, (1, 0))
    return ids, logits, labels.float() if labels.is_floating_point() else labels.long()


def as_losses(
    example_ids: Any, losses: Any, correct: Any, device: torch.device
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Ids (B,) int64, losses (B,) float32, correct (B,) bool or None; all on ``device``.

    Raises ``ValueError`` for wrong shapes and ``TypeError`` for wrong dtypes.
    """
    given = {"example_ids": example_ids, "losses": losses}
    given |= {} if correct is None else {"correct": correct}
    tensors = {name: as_tensor(name, values) for name, values in given.items()}
    _check_ids(tensors["example_ids"])
    shapes = {tuple(values.shape) for values in tensors.values()}
    if len(shapes) > 1 or tensors["losses"].ndim != 1:
        expected = ", ".join(f"{name} (B,)" for name in tensors)
        found = ", ".join(str(tuple(values.shape)) for values in tensors.values())
        raise ValueError(f"expected shapes {expected}, got {found}")
    if not tensors["losses"].is_floating_point():
        raise TypeError(f"losses must be floats, not {tensors['losses'].dtype}")
    move = {"device": device, "non_blocking": device.type == "cuda"}
    ids, losses, *others = (values.detach().to(**move) for values in tensors.values())
    return ids.long(), losses.float(), others[0].bool() if others else None


def as_tensor(name: str, values: Any) -> Tensor:
    """A tensor of a tensor, a list of numbers or tensors, or anything with ``__array__`` or ``__dlpack__``.

    Arrays of JAX, TensorFlow and CuPy stay on their device. Raises ``TypeError`` for anything else.
    """
    if isinstance(values, Tensor):
        return values
    try:
        if isinstance(values, list | tuple) and values and isinstance(values[0], Tensor):
            return torch.stack(list(values))
        if hasattr(values, "__dlpack__") and not isinstance(values, np.ndarray):
            return torch.from_dlpack(values)
        array = np.asarray(values)
        # torch rejects read-only, reversed and byte-swapped memory: np.require copies if necessary.
        return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        reason = str(error).splitlines()[0]
        raise TypeError(f"{name} must be a tensor, an array or a list of numbers: {reason}") from error


def _check(ids: Tensor, logits: Tensor, labels: Tensor) -> None:
    if not (logits.ndim == 2 and ids.shape == labels.shape == logits.shape[:1]):
        shapes = ", ".join(str(tuple(each.shape)) for each in (ids, logits, labels))
        hint = ". For one logit per example, pass logits.unsqueeze(1)" if logits.ndim == 1 else ""
        expected = "example_ids (B,), logits (B, C), labels (B,)"
        raise ValueError(f"expected shapes {expected}, got {shapes}{hint}")
    if not 1 <= logits.shape[1] <= _MOST_CLASSES:
        raise ValueError(f"logits must have 1 to {_MOST_CLASSES:,} columns, not {logits.shape[1]:,}")
    _check_ids(ids)
    if logits.is_complex() or labels.is_complex():
        raise TypeError(f"logits and labels must be real numbers, not {logits.dtype} and {labels.dtype}")


def _check_ids(ids: Tensor) -> None:
    # NumPy makes an empty list float64.
    if ids.shape[0] and ids.dtype not in _INTEGERS:
        raise TypeError(f"example_ids must be integers, not {ids.dtype}")


def check_labels(labels: Tensor, ids: Tensor, num_classes: int) -> None:
    """Raise ``ValueError`` unless all labels are integers in 0..num_classes-1. Synchronizes the device."""
    least, greatest = labels.aminmax()
    is_whole = not labels.is_floating_point() or torch.equal(labels, labels.trunc())
    if is_whole and least.item() >= 0 and greatest.item() < num_classes:
        return
    is_class = (labels >= 0) & (labels < num_classes) & (labels == labels.trunc())
    first = is_class.logical_not().nonzero()[0]
    raise ValueError(wrong_label(ids[first].item(), labels[first].item(), num_classes))


def wrong_label(example: int, label: float, num_classes: int) -> str:
    """The message for a label that is not a class, with the likely cause."""
    if label == -100:
        hint = (
            "-100 is PyTorch's ignore_index: do not pass such examples to update(), "
            "and list their ids in Recorder(..., unreadable=ids)"
        )
    elif label != label or label % 1:
        hint = "labels are class indices, not probabilities"
    elif label == num_classes:
        hint = "do labels start at 1? They must start at 0"
    else:
        hint = "labels are class indices, and logits have one column per class"
    label = int(label) if float(label).is_integer() else label
    classes = f"{num_classes} classes, 0..{num_classes - 1}"
    return f"example {example} has label {label}, but there are {classes}: {hint}"

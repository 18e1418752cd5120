"""What an optimizer needs of a training step."""

from dataclasses import dataclass

from torch.optim import Optimizer


@dataclass(frozen=True)
class Requirements:
    """An optimizer with other needs than the default has an attribute ``requirements``."""

    num_groups: int = 1
    """More than one: a backward pass and a ``collect()`` for each group of the batch."""
    example_gradients: bool = False
    """Gradients of single examples, by its own ``backward(model, inputs, labels)``."""
    min_batch_size: int = 1


def requirements(optimizer: Optimizer) -> Requirements:
    return getattr(optimizer, "requirements", Requirements())

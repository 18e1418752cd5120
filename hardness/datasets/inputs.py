"""What a network takes: one tensor, or several by name, each with the examples along its first axis."""

from torch import Tensor

Inputs = Tensor | dict[str, Tensor]


def take(inputs: Inputs, index: slice) -> Inputs:
    """Some of the examples of a batch."""
    if isinstance(inputs, dict):
        return {name: values[index] for name, values in inputs.items()}
    return inputs[index]

"""A multilayer perceptron."""

from collections.abc import Sequence
from math import prod

from torch import nn

from hardness.registry import MODELS


@MODELS.register("mlp")
def mlp(input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """Two hidden layers of 256 units, no batch normalization."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(prod(input_shape), 256),
        nn.ReLU(),
        nn.Linear(256, 256),
        nn.ReLU(),
        nn.Linear(256, num_classes),
    )

"""A small convolutional network for images of 16 to 64 pixels."""

import itertools
from collections.abc import Sequence

from torch import nn

from hardness.registry import MODELS


@MODELS.register("small_cnn")
def small_cnn(input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """Three 3 x 3 convolutions with max-pooling, two linear layers, no batch normalization."""
    widths = (input_shape[0], 32, 64, 128)
    layers = []
    for wide_in, wide_out in itertools.pairwise(widths):
        # Pooling before ReLU gives the same values with a quarter of the ReLUs.
        layers += [nn.Conv2d(wide_in, wide_out, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
    return nn.Sequential(
        *layers,
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128 * 16, 256),
        nn.ReLU(),
        nn.Linear(256, num_classes),
    )

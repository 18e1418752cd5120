"""The coordinate-wise median of three tensors, as a network of minima and maxima."""

import torch
from torch import Tensor


def median_of_three(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The middle value at every coordinate of three tensors of one shape, dtype and device.

    max(min(a, b), min(max(a, b), c)). nan in any of them gives nan at that coordinate; a single infinity is
    ignored.
    """
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))


def median_from_ordered_(low: list[Tensor], high: list[Tensor], third: list[Tensor]) -> None:
    """The medians of ``low <= high`` and ``third``, written over ``low``."""
    torch._foreach_maximum_(low, torch._foreach_minimum(high, third))

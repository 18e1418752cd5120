"""The coordinate-wise median of three tensors, as a network of minima and maxima."""

import torch
from torch import Tensor


def median_of_three(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The middle value at every coordinate of three tensors of one shape, dtype and device.

    max(min(a, b), min(max(a, b), c)). nan at a coordinate of any of them gives nan there; a single infinity
    is outvoted.
    """
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))


def order_(low: Tensor, high: Tensor) -> None:
    """Put the smaller of two tensors into the first and the larger into the second, in place."""
    larger = torch.maximum(low, high)
    torch.minimum(low, high, out=low)
    high.copy_(larger)


def median_from_ordered_(low: Tensor, high: Tensor, c: Tensor) -> Tensor:
    """The median of ``low <= high`` and ``c``, written over ``low``; overwrites ``high`` as well."""
    torch.minimum(high, c, out=high)
    return torch.maximum(low, high, out=low)

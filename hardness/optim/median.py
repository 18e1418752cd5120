"""The coordinate-wise median of three tensors."""

import torch
from torch import Tensor


def median_of_three(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The middle value at every coordinate of three tensors of one shape, dtype and device.

    A min/max network: max(min(a, b), min(max(a, b), c)). nan at a coordinate of any of them gives nan
    there; a single infinity is outvoted.
    """
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))

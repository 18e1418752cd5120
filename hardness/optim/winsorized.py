"""Winsorized SGD, the baseline of the first coherent-gradients paper.

Chatterjee, Coherent Gradients, ICLR 2020, arXiv:2002.10657: clip each coordinate of the per-example gradients
at its c-th smallest and its c-th largest value in the mini-batch, then average.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hardness.datasets.examples import Inputs
from hardness.gradients import per_example_gradients
from hardness.optim.requirements import Requirements
from hardness.registry import OPTIMIZERS


def winsorized_mean(gradients: Tensor, c: int) -> Tensor:
    """Clip at the c-th smallest and c-th largest of the first axis, and average over it: (B, ...) -> (...).

    c=1 is the mean, 2 c = B + 1 the median. nan propagates; up to c - 1 infinities of each sign are clipped.
    Raises ``ValueError`` if 2 c > B + 1 or c < 1.
    """
    size = len(gradients)
    if not 1 <= c <= (size + 1) // 2:
        raise ValueError(f"c must be in 1..{(size + 1) // 2} for {size} examples, not {c}")
    if c == 1:
        return gradients.mean(0)
    low = _kth(gradients, c, torch.minimum, torch.maximum)
    high = _kth(gradients, c, torch.maximum, torch.minimum)
    return gradients.clamp(low, high).mean(0)


@OPTIMIZERS.register("winsorized", compiles=False)
class WinsorizedSGD(torch.optim.SGD):
    """SGD along the winsorized mean of the per-example gradients: ``backward(...)``, then ``step()``.

    Needs memory for 2 x examples x parameters numbers: suitable for small models only.
    """

    def __init__(self, params: Any, lr: float, c: int = 2, weight_decay: float = 0.0, momentum: float = 0.0):
        super().__init__(params, lr=lr, weight_decay=weight_decay, momentum=momentum)
        self.c = c

    @property
    def requirements(self) -> Requirements:
        return Requirements(example_gradients=True, min_batch_size=2 * self.c - 1)

    def backward(self, model: nn.Module, inputs: Inputs, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Put the winsorized mean into ``.grad`` -> (mean cross-entropy (), logits (B, C)), both detached."""
        gradients, losses, logits = per_example_gradients(model, inputs, labels)
        for name, parameter in model.named_parameters():
            if name in gradients:
                parameter.grad = winsorized_mean(gradients.pop(name), self.c)
        return losses.mean(), logits


def _kth(rows: Tensor, k: int, first: Callable[..., Tensor], last: Callable[..., Tensor]) -> Tensor:
    """The k-th smallest (``first`` a minimum, ``last`` a maximum) or largest of the first axis.

    Inserts each row into the k best so far. For small k this is about 40 times faster than ``kthvalue`` along
    an axis that is not the innermost.
    """
    best: list[Tensor] = []
    for row in rows:
        for rank, held in enumerate(best):
            best[rank], row = first(held, row), last(held, row)
        if len(best) < k:
            best.append(row)
    return best[-1]

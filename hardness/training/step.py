"""One training step."""

from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from hardness.optim.m3 import NUM_GROUPS, GroupGradients


def train_step(
    model: nn.Module, optimizer: Optimizer, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Forward, loss, backward, step -> (mean cross-entropy (), logits (B, C)), both detached.

    M3 and A3 make a forward and a backward pass for each group (position in the batch, modulo 3), so that
    batch normalisation sees groups, not the batch.
    """
    is_grouped = isinstance(optimizer, GroupGradients)
    num_groups = NUM_GROUPS if is_grouped else 1
    optimizer.zero_grad()
    logits, losses = None, []
    for group in (slice(first, None, num_groups) for first in range(num_groups)):
        group_logits = model(images[group])
        loss = F.cross_entropy(group_logits, labels[group])
        loss.backward()
        if is_grouped:
            optimizer.collect()
        if logits is None:
            logits = group_logits.new_empty(len(images), group_logits.shape[1])
        logits[group] = group_logits.detach()
        losses.append(loss.detach() * len(group_logits))
    optimizer.step()
    return torch.stack(losses).sum() / len(images), logits


class StepNorm:
    """The mean L2 norm of the step's direction (parameter change / learning rate), over a few steps.

    Seen from the parameters, so that it is the same quantity for every optimizer, with its weight decay
    and momentum.
    """

    def __init__(self, model: nn.Module):
        self.parameters = list(model.parameters())
        self.norms: list[Tensor] = []

    @contextmanager
    @torch.no_grad()
    def measured(self, learning_rate: float):
        before = [parameter.detach().clone() for parameter in self.parameters]
        yield
        changes = torch._foreach_norm(torch._foreach_sub(self.parameters, before))
        self.norms.append(torch.stack(changes).norm() / learning_rate)

    def mean(self) -> float:
        return torch.stack(self.norms).mean().item()

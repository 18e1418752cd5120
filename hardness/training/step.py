"""One training step."""

from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from hardness.optim import WinsorizedSGD
from hardness.optim.m3 import num_groups


def train_step(
    model: nn.Module,
    optimizer: Optimizer,
    images: Tensor,
    labels: Tensor,
    *,
    first: int = 0,
    batch_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Forward, loss, backward, step -> (mean cross-entropy (), logits (B, C)), both detached.

    M3, A3 and optimizers made robust with them run a forward and a backward pass for each group (position in
    the global batch, modulo 3), so that batch normalization sees groups, not the batch.

    With several ranks, each passes its slice of the global batch of ``batch_size``, which starts at position
    ``first``; a model whose gradients are averaged over ranks (DDP, FSDP) then takes the same step as one
    process on the whole batch. The loss is the mean over this rank's slice.
    """
    optimizer.zero_grad()
    if isinstance(optimizer, WinsorizedSGD):
        if batch_size is not None:
            raise RuntimeError("WinsorizedSGD supports one process only: it needs the whole batch")
        loss, logits = optimizer.backward(model, images, labels)
        optimizer.step()
        return loss, logits
    num_ranks = 1 if batch_size is None else torch.distributed.get_world_size()
    batch_size = len(images) if batch_size is None else batch_size
    groups = num_groups(optimizer)
    logits, losses = None, []
    for group in range(groups):
        mine = slice((group - first) % groups, None, groups)
        global_size = len(range(group, batch_size, groups))
        group_logits = model(images[mine])
        # Averaging over ranks divides by num_ranks: this gives the mean over the global group.
        loss = F.cross_entropy(group_logits, labels[mine], reduction="sum")
        (loss * (num_ranks / global_size)).backward()
        if groups > 1:
            optimizer.collect()
        if logits is None:
            logits = group_logits.new_empty(len(images), group_logits.shape[1])
        logits[mine] = group_logits.detach()
        losses.append(loss.detach())
    optimizer.step()
    return torch.stack(losses).sum() / len(images), logits


class StepNorm:
    """The mean L2 norm of the step's direction (parameter change / learning rate), over a few steps.

    Measured on the parameters, so that it is the same quantity for every optimizer, including weight decay
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

"""One training step."""

from contextlib import contextmanager
from operator import itemgetter

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from hardness.datasets.examples import Inputs, each_tensor
from hardness.optim.requirements import requirements
from hardness.ranks import ALONE, Ranks


def train_step(
    model: nn.Module,
    optimizer: Optimizer,
    inputs: Inputs,
    labels: Tensor,
    *,
    batch_size: int | None = None,
    ranks: Ranks = ALONE,
) -> tuple[Tensor, Tensor]:
    """Forward, loss, backward, step -> (mean cross-entropy (), logits (B, C)), both detached.

    M3, A3 and optimizers that are robust with them take a forward and a backward pass for each group
    (position in the global batch, modulo 3), so that batch normalization sees groups, not the batch.

    With many ranks, each passes its slice (``ranks.slice``) of the global batch of ``batch_size`` examples.
    A model whose gradients are averaged over ranks (DDP, FSDP) then takes the step of one process with the
    whole batch. The loss is the mean over this rank's slice.
    """
    optimizer.zero_grad()
    needs = requirements(optimizer)
    if needs.example_gradients:
        if ranks.is_many:
            raise RuntimeError(f"{type(optimizer).__name__} works in one process only")
        loss, logits = optimizer.backward(model, inputs, labels)
        optimizer.step()
        return loss, logits
    batch_size = len(labels) if batch_size is None else batch_size
    first, groups = ranks.slice(batch_size).start, needs.num_groups
    logits, losses = None, []
    for group in range(groups):
        mine = slice((group - first) % groups, None, groups)
        global_size = len(range(group, batch_size, groups))
        group_logits = model(each_tensor(itemgetter(mine), inputs))
        # Averaging over ranks divides by their number: this gives the mean over the global group.
        loss = F.cross_entropy(group_logits, labels[mine], reduction="sum")
        (loss * (ranks.size / global_size)).backward()
        if groups > 1:
            optimizer.collect()
        if logits is None:
            logits = group_logits.new_empty(len(labels), group_logits.shape[1])
        logits[mine] = group_logits.detach()
        losses.append(loss.detach())
    optimizer.step()
    return torch.stack(losses).sum() / len(labels), logits


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

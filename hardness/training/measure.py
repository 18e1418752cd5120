"""Forward passes in evaluation mode: predictions for every example, and metrics of groups of examples."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardness.datasets import Examples, Loader
from hardness.datasets.loader import batches_of
from hardness.dynamics.coherence import CoherenceSums
from hardness.gradients import gradients_of
from hardness.resources import Resources

EVAL_BATCH = {"cpu": 128, "cuda": 512}
"""Per type of device. On a CPU a layer's output should fit into the caches: 1.4 times as fast as 512."""
_COHERENCE_COLUMNS = {
    "epoch": "int64",
    "measured_on": "str",
    "layer": "str",
    "num_examples": "int64",
    "mean_loss": "float64",
    "m_coherence": "float64",
    "coherence": "float64",
    "sum_norm": "float64",
    "mean_square": "float64",
}


@torch.no_grad()
def predict(
    model: nn.Module, examples: Examples, ids: np.ndarray, resources: Resources
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (example ids (B,), logits (B, C), given labels (B,)) in evaluation mode, ordered as ``ids``.

    With several ranks, each gets its part of ``ids``.
    """
    model.eval()
    batches = batches_of(ids[resources.ranks.slice(len(ids))], EVAL_BATCH[resources.device.type])
    for inputs, labels, example_ids in Loader(examples, batches, resources.device, resources.workers):
        yield example_ids, model(inputs), labels


@dataclass(frozen=True)
class Group:
    """Examples measured together under one name."""

    name: str
    examples: Examples
    ids: np.ndarray
    against_clean: bool = False
    """Measure against the clean labels instead of the given labels."""


Predict = Callable[[Examples, np.ndarray], Iterator[tuple[Tensor, Tensor, Tensor]]]
"""(examples, ids) -> batches of example ids (B,), logits (B, C), given labels (B,)."""


def measure(
    model: nn.Module, groups: Sequence[Group], resources: Resources
) -> list[dict[str, str | float | int]]:
    """Loss (mean cross-entropy, nats), top-1 and top-5 accuracy of every group, in evaluation mode."""
    return measured(partial(predict, model, resources=resources), groups, resources)


def measured(
    predictions: Predict, groups: Sequence[Group], resources: Resources
) -> list[dict[str, str | float | int]]:
    """``measure`` of any predictions. Groups of the same examples share a pass over their union."""
    rows, device = {}, resources.device
    for examples in dict.fromkeys(group.examples for group in groups):
        together = [group for group in groups if group.examples is examples]
        sums = torch.zeros(len(together), 3, dtype=torch.float64, device=device)
        members = [torch.zeros(len(examples), dtype=torch.bool, device=device) for _ in together]
        for member, group in zip(members, together, strict=True):
            member[torch.tensor(group.ids, device=device)] = True
        clean_labels = examples.clean_labels.to(device)
        union = np.unique(np.concatenate([group.ids for group in together]))
        for ids, logits, given_labels in predictions(examples, union):
            for index, group in enumerate(together):
                labels = clean_labels[ids] if group.against_clean else given_labels
                weight = members[index][ids].double()
                sums[index] += (_metrics(logits, labels) * weight).sum(1)
        for group, (loss, top1, top5) in zip(together, resources.ranks.reduce(sums).tolist(), strict=True):
            size = len(group.ids)
            rows[group.name] = {
                "measured_on": group.name,
                "loss": loss / size,
                "top1": top1 / size,
                "top5": top5 / size,
                "num_examples": size,
            }
    return [rows[group.name] for group in groups]


def measure_coherence(
    model: nn.Module, groups: Sequence[Group], epoch: int, resources: Resources
) -> pd.DataFrame:
    """The rows of coherence.parquet of one epoch: one per group and layer, with the group's mean loss (nats).

    In evaluation mode: batch normalization uses its running statistics.
    """
    rows = []
    for group in groups:
        coherence, losses = CoherenceSums(), torch.zeros((), dtype=torch.float64, device=resources.device)
        for _, gradients, loss in gradients_of(model, group.examples, group.ids, resources):
            coherence.add(gradients)
            losses += loss.double().sum()
        named = {"epoch": epoch, "measured_on": group.name, "mean_loss": losses.item() / len(group.ids)}
        rows += [named | row for row in coherence.result()]
    return pd.DataFrame(rows, columns=list(_COHERENCE_COLUMNS)).astype(_COHERENCE_COLUMNS)


def _metrics(logits: Tensor, labels: Tensor) -> Tensor:
    """(3, B) float64: loss, whether the label is the top prediction, whether it is among the top five."""
    loss = F.cross_entropy(logits.float(), labels, reduction="none")
    hits = logits.topk(min(5, logits.shape[1])).indices == labels.unsqueeze(1)
    return torch.stack([loss.double(), hits[:, 0].double(), hits.any(1).double()])

"""Passes in evaluation mode: recording every example, and measuring groups of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardness import distributed
from hardness.datasets import ImageSet, Loader
from hardness.datasets.loader import cut

EVAL_BATCH = 512


@torch.no_grad()
def predict(
    model: nn.Module, images: ImageSet, ids: np.ndarray, device: torch.device, workers: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (example ids (B,), logits (B, C), given labels (B,)) in evaluation mode, ordered as ``ids``.

    Of many ranks, each gets its part of ``ids``.
    """
    model.eval()
    ids = ids[distributed.my_slice(len(ids))]
    for pixels, labels, example_ids in Loader(images, cut(ids, EVAL_BATCH), device, workers):
        yield example_ids, model(pixels), labels


@dataclass(frozen=True)
class Group:
    """Examples measured together under one name."""

    name: str
    images: ImageSet
    ids: np.ndarray
    against_clean: bool = False
    """Measure against the clean labels, not the given ones."""


def measure(
    model: nn.Module, groups: Sequence[Group], device: torch.device, workers: int
) -> list[dict[str, str | float | int]]:
    """Loss (mean cross-entropy, nats), top-1 and top-5 (shares) of every group, in evaluation mode.

    Groups of one image set share one pass over the union of their examples.
    """
    rows = {}
    for images in dict.fromkeys(group.images for group in groups):
        together = [group for group in groups if group.images is images]
        sums = torch.zeros(len(together), 3, dtype=torch.float64, device=device)
        members = [torch.zeros(len(images), dtype=torch.bool, device=device) for _ in together]
        for member, group in zip(members, together, strict=True):
            member[torch.tensor(group.ids, device=device)] = True
        clean_labels = images.clean_labels.to(device)
        union = np.unique(np.concatenate([group.ids for group in together]))
        for ids, logits, given_labels in predict(model, images, union, device, workers):
            for index, group in enumerate(together):
                labels = clean_labels[ids] if group.against_clean else given_labels
                weight = members[index][ids].double()
                sums[index] += (_metrics(logits, labels) * weight).sum(1)
        for group, (loss, top1, top5) in zip(together, distributed.reduce(sums).tolist(), strict=True):
            size = len(group.ids)
            rows[group.name] = {
                "measured_on": group.name,
                "loss": loss / size,
                "top1": top1 / size,
                "top5": top5 / size,
                "num_examples": size,
            }
    return [rows[group.name] for group in groups]


def _metrics(logits: Tensor, labels: Tensor) -> Tensor:
    """(3, B) float64: loss, whether the label is the top prediction, whether it is among the top five."""
    loss = F.cross_entropy(logits.float(), labels, reduction="none")
    hits = logits.topk(min(5, logits.shape[1])).indices == labels.unsqueeze(1)
    return torch.stack([loss.double(), hits[:, 0].double(), hits.any(1).double()])

"""Gradient coherence of groups of examples, as a network finds them."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import nn

from hardness.dynamics.coherence import Coherence
from hardness.gradients import gradients_of
from hardness.training.measure import Group

COLUMNS = {
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


def measure_coherence(
    model: nn.Module, groups: Sequence[Group], epoch: int, device: torch.device, workers: int
) -> pd.DataFrame:
    """The rows of coherence.parquet of an epoch: a row a group and layer, with the group's mean loss (nats).

    In evaluation mode: batch normalisation goes by its running statistics.
    """
    rows = []
    for group in groups:
        coherence, losses = Coherence(), 0.0
        for _, gradients, loss in gradients_of(model, group.images, group.ids, device, workers):
            coherence.add(gradients)
            losses += loss.double().sum().item()
        named = {"epoch": epoch, "measured_on": group.name, "mean_loss": losses / len(group.ids)}
        rows += [named | row for row in coherence.result()]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)

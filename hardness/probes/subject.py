"""What a probe may ask: a tracked run's network, and the examples that it was trained on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardness.config import Track
from hardness.datasets import DataSet
from hardness.errors import UserError
from hardness.training.measure import predict


@dataclass(frozen=True)
class Subject:
    """A tracked run: its settings, its data under the given labels, its network at an epoch."""

    run: Path
    config: Track
    data: DataSet
    model: nn.Module
    device: torch.device
    workers: int

    def everyone(self, values: np.ndarray) -> np.ndarray:
        """(R, ...) of the readable examples, ordered by id -> (N, ...) float64 of all, nan of the others."""
        images = self.data.train
        found = np.full((len(images), *values.shape[1:]), np.nan)
        found[images.ids] = values
        return found

    def predictions(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (logits (B, C), given labels (B,)) of the readable examples, ordered by id."""
        images = self.data.train
        for _, logits, labels in predict(self.model, images, images.ids, self.device, self.workers):
            yield logits, labels

    def features(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (what the last linear layer is given (B, D), logits (B, C), given labels (B,)), all float32.

        Raises ``UserError`` where the logits are not what a linear layer puts out.
        """
        linear = [module for module in self.model.modules() if isinstance(module, nn.Linear)]
        seen: list[Tensor] = []
        hook = linear and linear[-1].register_forward_hook(lambda _, given, __: seen.append(given[0]))
        try:
            for logits, labels in self.predictions():
                features = seen.pop().float() if seen else None
                if features is None or not _is_last(linear[-1], features, logits):
                    do = "choose another score, or track another --model"
                    raise UserError("a network that ends in a linear layer", self.config.model, do)
                yield features, logits, labels
        finally:
            if hook:
                hook.remove()


def _is_last(layer: nn.Linear, features: Tensor, logits: Tensor) -> bool:
    again = F.linear(features[:1], layer.weight.float(), layer.bias)
    # bfloat16, in which the network may compute, has eight bits.
    return again.shape == logits[:1].shape and torch.allclose(again, logits[:1], rtol=0.05, atol=0.05)

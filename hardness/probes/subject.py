"""The input of a probe: a tracked run's network and training examples."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hardness.config import Track
from hardness.datasets import DataSet
from hardness.errors import UserError
from hardness.training.measure import predict


@dataclass(frozen=True)
class Subject:
    """A tracked run: its settings, its data with the given labels, its network after an epoch."""

    run: Path
    config: Track
    data: DataSet
    model: nn.Module
    device: torch.device
    workers: int

    def to_all_examples(self, values: np.ndarray) -> np.ndarray:
        """Values (R, ...) of the readable examples, ordered by id -> (N, ...) float64, nan for the others."""
        images = self.data.train
        expanded = np.full((len(images), *values.shape[1:]), np.nan)
        expanded[images.ids] = values
        return expanded

    def predictions(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (logits (B, C), given labels (B,)) of the readable examples, ordered by id."""
        images = self.data.train
        for _, logits, labels in predict(self.model, images, images.ids, self.device, self.workers):
            yield logits, labels

    def features(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (input of the last linear layer (B, D), logits (B, C), given labels (B,)), all float32.

        Raises ``UserError`` if the logits are not the output of a linear layer.
        """
        calls: list[tuple[Tensor, Tensor]] = []
        hooks = [
            module.register_forward_hook(lambda _, inputs, output: calls.append((inputs[0], output)))
            for module in self.model.modules()
            if isinstance(module, nn.Linear)
        ]
        try:
            for logits, labels in self.predictions():
                features, output = calls[-1] if calls else (None, None)
                calls.clear()
                if output is None or not torch.equal(output.float(), logits):
                    sentence = "{model} does not end in a linear layer."
                    hint = "Choose another score, or track another --model."
                    raise UserError("no-last-linear-layer", sentence, hint, model=self.config.model)
                yield features.float(), logits, labels
        finally:
            for hook in hooks:
                hook.remove()

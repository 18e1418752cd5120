"""The input of a probe: a tracked run's network and training examples."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hardness.datasets import Examples
from hardness.errors import UserError
from hardness.resources import Resources
from hardness.training.job import Job
from hardness.training.measure import predict


@dataclass(frozen=True)
class TrackedModel:
    """A tracked run: how it was trained, on which examples, and its network after an epoch."""

    run: Path
    job: Job
    model: nn.Module

    @property
    def examples(self) -> Examples:
        return self.job.examples

    @property
    def resources(self) -> Resources:
        return self.job.resources

    def to_all_examples(self, values: np.ndarray) -> np.ndarray:
        """Values (R, ...) of the readable examples, ordered by id -> (N, ...) float64, nan for the others."""
        expanded = np.full((len(self.examples), *values.shape[1:]), np.nan)
        expanded[self.examples.ids] = values
        return expanded

    def predictions(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (logits (B, C), given labels (B,)) of the readable examples, ordered by id."""
        for _, logits, labels in predict(self.model, self.examples, self.examples.ids, self.resources):
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
                    raise UserError("no-last-linear-layer", sentence, hint, model=self.job.model)
                yield features.float(), logits, labels
        finally:
            for hook in hooks:
                hook.remove()

"""What a probe works with: a tracked run's network, and the examples that it was trained on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hardness.datasets import ImageSet
from hardness.errors import UserError
from hardness.resources import Resources
from hardness.training.job import Job
from hardness.training.measure import predict


@dataclass(frozen=True)
class TrackedModel:
    """A tracked run: how it was trained, on which examples, and its network at an epoch."""

    run: Path
    job: Job
    model: nn.Module

    @property
    def examples(self) -> ImageSet:
        return self.job.examples

    @property
    def resources(self) -> Resources:
        return self.job.resources

    def to_all_examples(self, values: np.ndarray) -> np.ndarray:
        """(R, ...) of the readable examples, ordered by id -> (N, ...) float64 of all, nan of the others."""
        images = self.examples
        found = np.full((len(images), *values.shape[1:]), np.nan)
        found[images.ids] = values
        return found

    def predictions(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (logits (B, C), given labels (B,)) of the readable examples, ordered by id."""
        for _, logits, labels in predict(self.model, self.examples, self.examples.ids, self.resources):
            yield logits, labels

    def features(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (what the last linear layer is given (B, D), logits (B, C), given labels (B,)), all float32.

        Raises ``UserError`` where the logits are not what a linear layer puts out.
        """
        seen: list[tuple[Tensor, Tensor]] = []
        hooks = [
            module.register_forward_hook(lambda _, given, found: seen.append((given[0], found)))
            for module in self.model.modules()
            if isinstance(module, nn.Linear)
        ]
        try:
            for logits, labels in self.predictions():
                features, found = seen[-1] if seen else (None, None)
                seen.clear()
                if found is None or not torch.equal(found.float(), logits):
                    do = "choose another score, or track another --model"
                    raise UserError("a network that ends in a linear layer", self.job.model, do)
                yield features.float(), logits, labels
        finally:
            for hook in hooks:
                hook.remove()

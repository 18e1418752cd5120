"""Gradient coherence of a set of examples: how well their gradients align.

Chatterjee and Zielinski, *Making Coherence Out of Nothing At All*, arXiv:2008.01217: for m examples with
gradients g, m-coherence = |sum g|^2 / sum |g|^2, which is 1 if they are orthogonal, m if they are identical,
and 0 if they cancel. We add a form that does not depend on m: the mean inner product of two examples'
gradients over the mean squared norm, (|sum g|^2 - sum |g|^2) / ((m - 1) sum |g|^2), which is 0 if they are
orthogonal and 1 if they are identical.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

WHOLE = "whole network"


class CoherenceSums:
    """Accumulates per-example gradients in chunks; keeps only their sum, in float64."""

    def __init__(self) -> None:
        self.num_examples = 0
        self.sums: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = {}

    def add(self, gradients: Mapping[str, Tensor]) -> None:
        """Gradients {parameter: (B, *shape)} of B more examples; the same parameters in every call."""
        self.num_examples += len(next(iter(gradients.values())))
        for name, values in gradients.items():
            total = values.sum(0, dtype=torch.float64)
            squares = torch.linalg.vector_norm(values.flatten(1), dim=1).double().square().sum()
            self.sums[name] = self.sums[name].add_(total) if name in self.sums else total
            self.squares[name] = self.squares[name].add_(squares) if name in self.squares else squares

    def result(self) -> Iterator[dict[str, str | int | float | None]]:
        """Yield one row for the whole network and one per layer (a module with its own parameters).

        Columns: layer, num_examples (m), m_coherence, coherence (the form that does not depend on m),
        sum_norm (|sum g|), mean_square (sum |g|^2 / m). Both coherences are None if every gradient is zero;
        the second is also None for a single example.
        """
        layers: dict[str, list[str]] = {}
        for name in self.sums:
            layers.setdefault(name.rpartition(".")[0] or name, []).append(name)
        for layer, names in {WHOLE: list(self.sums), **layers}.items():
            of_sum = sum(self.sums[name].square().sum().item() for name in names)
            of_each = sum(self.squares[name].item() for name in names)
            m = self.num_examples
            yield {
                "layer": layer,
                "num_examples": m,
                "m_coherence": of_sum / of_each if of_each > 0 else None,
                "coherence": (of_sum - of_each) / ((m - 1) * of_each) if of_each > 0 and m > 1 else None,
                "sum_norm": of_sum**0.5,
                "mean_square": of_each / m,
            }

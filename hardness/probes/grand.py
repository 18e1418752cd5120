"""GraNd (Paul et al. 2021): the norm of each example's gradient, exactly or by the last layer only."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hardness.dynamics.scores import SCORES
from hardness.gradients import gradients_of
from hardness.probes.tracked_model import TrackedModel


@SCORES.register(
    "grand",
    formula="|dL / dw|",
    source="Paul et al. 2021, arXiv:2107.07075",
    range="0..",
    sign=+1,
    use="Pruning, early in training (--epoch, of a run with --checkpoint-every), mean over seeds.",
)
def grand(tracked: TrackedModel) -> np.ndarray:
    """L2 norm of the gradient of the example's loss by all weights.

    (N,) float64, by all trained parameters. Exact, by ``torch.func``; in evaluation mode, so that batch
    normalization does not mix examples.
    """
    images, norms = tracked.examples, []
    for _, gradients, _ in gradients_of(tracked.model, images, images.ids, tracked.resources):
        squares = [values.flatten(1).square().sum(1) for values in gradients.values()]
        norms.append(torch.stack(squares).sum(0).sqrt())
    return tracked.to_all_examples(torch.cat(norms).double().cpu().numpy())


@SCORES.register(
    "grand_last_layer",
    formula="|softmax(z) - onehot(y)| sqrt(|h|^2 + 1), h the layer's input",
    source="after Katharopoulos and Fleuret 2018, arXiv:1803.00942",
    range="0..",
    sign=+1,
    use="GraNd at the cost of one forward pass; check their rank correlation first.",
)
def grand_last_layer(tracked: TrackedModel) -> np.ndarray:
    """GraNd by the weights and bias of the last linear layer alone, in closed form.

    (N,) float64. W and b are the weights and bias of the layer, z = W h + b. The gradient by W is
    (softmax(z) - onehot(y)) h^T and by b its first factor, so the norm of both is
    |softmax(z) - onehot(y)| sqrt(|h|^2 + 1).
    """
    norms = [last_layer_norm(*batch) for batch in tracked.features()]
    return tracked.to_all_examples(torch.cat(norms).double().cpu().numpy())


def last_layer_norm(features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """The closed form: h (B, D), z (B, C), labels (B,) -> (B,)."""
    error = logits.softmax(1) - F.one_hot(labels, logits.shape[1])
    return error.norm(dim=1) * (features.square().sum(1) + 1).sqrt()

"""The distance of an example to the mean of its class."""

import numpy as np
import torch

from hardness.dynamics.scores import SCORES
from hardness.probes.tracked_model import TrackedModel


@SCORES.register(
    "prototypicality",
    formula="|h - mean of h over the examples of class y|",
    source="Sorscher et al. 2022, arXiv:2206.14486, with the given labels for clusters",
    range="0..",
    sign=+1,
    use="Outliers of a class, whether or not the prediction is correct.",
)
def prototypicality(tracked: TrackedModel) -> np.ndarray:
    """Distance to the mean of the given class in the space before the last layer.

    (N,) float64, Euclidean. With given labels instead of the paper's clusters. Two passes over the examples,
    so that their features are not kept in memory.
    """
    num_classes = tracked.job.data.num_classes
    sums, counts = 0, torch.zeros(num_classes, dtype=torch.float64, device=tracked.resources.device)
    for features, _, labels in tracked.features():
        membership = torch.nn.functional.one_hot(labels, num_classes).double()
        sums = sums + membership.T @ features.double()
        counts += membership.sum(0)
    centres = sums / counts.clamp(min=1).unsqueeze(1)
    distances = [
        (features.double() - centres[labels]).norm(dim=1) for features, _, labels in tracked.features()
    ]
    return tracked.to_all_examples(torch.cat(distances).cpu().numpy())

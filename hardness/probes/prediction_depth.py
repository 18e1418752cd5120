"""Prediction depth (Baldock, Maennel and Neyshabur 2021, arXiv:2106.09647).

After the input, after each layer and after the softmax a probe classifies an example by the given labels of
its 30 nearest neighbours (Euclidean) among the other examples. Its prediction depth is the first position
from which on every probe agrees with the network.

Deviations from the paper: feature maps are averaged to 4 x 4, or to fewer if they would still have more than
2,048 numbers, and tokens are averaged, which bounds the cost of a distance; neighbours are searched among at
most 10,000 examples (30 per class, if that is more), drawn at random.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardness import seeding
from hardness.datasets import Loader
from hardness.datasets.loader import batches_of
from hardness.dynamics.scores import SCORES
from hardness.probes.tracked_model import TrackedModel
from hardness.training.measure import EVAL_BATCH

NEIGHBOURS = 30
_REFERENCES = 10_000
_MAP, _LARGEST = 4, 2048
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


@SCORES.register(
    "prediction_depth",
    formula="min {l : knn_m(x) = argmax z for all m >= l}, layer 0 the input; k = 30",
    source="Baldock et al. 2021, arXiv:2106.09647",
    range="0..layers + 1",
    sign=+1,
    use="At which depth the prediction is made, correct or not.",
)
def prediction_depth(tracked: TrackedModel) -> np.ndarray:
    """First layer from which every k-nearest-neighbour probe predicts what the network does.

    (N,) float64, integers from 0 (the probe of the input already agrees) to the number of probes. Ties among
    neighbours go to the smaller class.
    """
    images = tracked.examples
    generator = seeding.generator(tracked.job.seed, "prediction depth")
    ids = images.ids
    most = max(_REFERENCES, NEIGHBOURS * tracked.job.data.num_classes)
    if len(ids) > most:
        ids = np.sort(generator.choice(ids, most, replace=False))
    batches = [places for _, places, _ in _places(tracked, ids)]
    # One position at a time, so that only one is in memory twice.
    references = [torch.cat([places.pop() for places in batches]) for _ in range(len(batches[0]))][::-1]
    labels = images.given_labels[torch.from_numpy(ids)].to(tracked.resources.device)
    depths = []
    for example_ids, places, predictions in _places(tracked, images.ids):
        # An example is not its own neighbour.
        position = np.searchsorted(ids, example_ids.cpu().numpy()).clip(max=len(ids) - 1)
        is_there = ids[position] == example_ids.cpu().numpy()
        own = torch.from_numpy(np.where(is_there, position, -1)).to(tracked.resources.device)
        agrees = torch.stack(
            [
                vote(place, reference, labels, own, tracked.job.data.num_classes) == predictions
                for place, reference in zip(places, references, strict=True)
            ]
        )
        depths.append(depth(agrees))
    return tracked.to_all_examples(torch.cat(depths).double().cpu().numpy())


def depth(agrees: Tensor) -> Tensor:
    """(P, B) bool -> (B,) int64: the first position from which on all agree; P if the last does not."""
    return len(agrees) - agrees.flip(0).long().cumprod(0).sum(0)


def vote(queries: Tensor, references: Tensor, labels: Tensor, own: Tensor, num_classes: int) -> Tensor:
    """The most frequent label of each query's nearest references.

    queries (B, D), references (R, D) float32, labels (R,) int64, own (B,): the query's index among the
    references, or -1 -> (B,) int64.
    """
    distances = torch.cdist(queries, references)
    rows = (own >= 0).nonzero().squeeze(1)
    distances[rows, own[rows]] = torch.inf
    nearest = distances.topk(min(NEIGHBOURS, max(len(references) - 1, 1)), largest=False).indices
    return F.one_hot(labels[nearest], num_classes).sum(1).argmax(1)


def stages(network: nn.Module) -> list[nn.Module]:
    """The modules after which there is a probe: each is the last one before another module with weights.

    Considers the children of the network in order, and each module of a ``Sequential``. A normalization
    belongs to the module before it. After the last module with weights there is only the softmax's probe.
    """
    parts: list[nn.Module] = []

    def expand(module: nn.Module) -> None:
        for child in module.children():
            if type(child) is nn.Sequential:
                expand(child)
            else:
                parts.append(child)

    expand(network)
    ends, has_weights = [], False
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        has_weights |= any(True for _ in part.parameters())
        begins = following is not None and any(True for _ in following.parameters())
        if has_weights and begins and not isinstance(following, _NORMS):
            ends.append(part)
            has_weights = False
    return ends


@torch.no_grad()
def _places(tracked: TrackedModel, ids: np.ndarray):
    """Yield (example ids (B,), [(B, D) float32 per position], predictions (B,)) in evaluation mode."""
    outputs: dict[nn.Module, Tensor] = {}
    # The last module is the network itself; the normalization of pixels comes before it.
    modules = stages(tracked.model[-1])
    hooks = [
        module.register_forward_hook(lambda module, _, output: outputs.update({module: output}))
        for module in modules
    ]
    tracked.model.eval()
    try:
        for pixels, _, example_ids in Loader(
            tracked.examples,
            batches_of(ids, EVAL_BATCH[tracked.resources.device.type]),
            tracked.resources.device,
            tracked.resources.workers,
        ):
            logits = tracked.model(pixels)
            features = [
                _flat(tracked.job.data.adapter.center(pixels)),
                *(_flat(outputs[module]) for module in modules),
                logits.softmax(1),
            ]
            yield example_ids, features, logits.argmax(1)
    finally:
        for hook in hooks:
            hook.remove()


def _flat(values: Tensor) -> Tensor:
    values = values.float()
    if values.ndim == 4:
        most = min(_MAP, max(int((_LARGEST / values.shape[1]) ** 0.5), 1))
        size = (min(values.shape[2], most), min(values.shape[3], most))
        values = F.adaptive_avg_pool2d(values, size)
    elif values.ndim == 3:
        values = values.mean(1)
    return values.flatten(1)

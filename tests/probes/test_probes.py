"""Probes on networks and images whose scores are computed by hand or by a plain loop."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hardness import datasets, models
from hardness.config import Data
from hardness.datasets.examples import DataSet
from hardness.datasets.images import ImageAdapter, in_memory
from hardness.dynamics.scores import SCORES
from hardness.probes.grand import grand, grand_last_layer
from hardness.probes.prediction_depth import _flat, depth, prediction_depth, stages, vote
from hardness.probes.prototypicality import prototypicality
from hardness.probes.self_confidence import FOLDS, folds, out_of_fold, self_confidence
from hardness.probes.tracked_model import TrackedModel
from tests.conftest import refused
from tests.jobs import job


def tracked_model(tmp_path, data, model, **settings) -> TrackedModel:
    return TrackedModel(tmp_path, job(data, **settings), model.eval())


def two_pixels(pixels: list[list[int]], labels: list[int]) -> DataSet:
    """Images of 1 x 2 pixels, which reach the network as 0..1."""
    images = torch.tensor(pixels, dtype=torch.uint8).view(-1, 1, 1, 2)
    train = in_memory(images, torch.tensor(labels), "train")
    return DataSet(train, train, ["a", "b"], ImageAdapter((1, 1, 2), [0.0], [1.0]))


def linear(weight: list[list[float]]) -> nn.Module:
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.zero_()
    body = nn.Sequential(nn.Flatten(), layer)
    return ImageAdapter((1, 1, 2), [0.0], [1.0]).network(body, "linear", "float32")


FIVE = [[0, 0], [255, 0], [0, 255], [255, 255], [255, 0]], [0, 0, 1, 1, 1]


def test_grand_of_five_examples_worked_by_hand(tmp_path):
    """Of z = W h with W the unit matrix times log 3: the probabilities are 1/2, 3/4 or 1/4."""
    data = two_pixels(*FIVE)
    tracked_run = tracked_model(tmp_path, data, linear([[math.log(3), 0], [0, math.log(3)]]))
    # |p - y| is sqrt 2 times the other class's probability, |h|^2 + 1 is 1, 2, 2, 3, 2.
    expected = math.sqrt(2) * np.array([0.5, 0.25, 0.25, 0.5, 0.75]) * np.sqrt([1, 2, 2, 3, 2])
    np.testing.assert_allclose(grand_last_layer(tracked_run), expected, rtol=1e-6)
    # The network is that one layer.
    np.testing.assert_allclose(grand(tracked_run), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["mlp", "small_cnn"])
def test_grand_is_the_norm_of_the_gradient_of_each_example_alone(tmp_path, name):
    data = datasets.load(Data(), model=name)
    some = in_memory(data.train.inputs[range(40)], data.train.clean_labels[:40], "train")
    data = replace(data, train=some)
    tracked_run = tracked_model(tmp_path, data, models.build(name, data, seed=0))
    exact, last = grand(tracked_run), grand_last_layer(tracked_run)
    for example_id in (0, 7, 39):
        image, label, _ = data.train.__getitems__([example_id])
        loss = F.cross_entropy(tracked_run.model(image), label)
        gradients = torch.autograd.grad(loss, list(tracked_run.model.parameters()))
        norms = [part.double().square().sum().item() for part in gradients]
        assert exact[example_id] == pytest.approx(math.sqrt(sum(norms)), rel=1e-4)
        assert last[example_id] == pytest.approx(math.sqrt(sum(norms[-2:])), rel=1e-4)


def test_prototypicality_of_five_examples_worked_by_hand(tmp_path):
    """Class a: (0, 0) and (1, 0), centre (1/2, 0); class b: (0, 1), (1, 1), (1, 0), centre (2/3, 2/3)."""
    tracked_run = tracked_model(tmp_path, two_pixels(*FIVE), linear([[1.0, 0], [0, 1.0]]))
    expected = [0.5, 0.5, math.sqrt(5) / 3, math.sqrt(2) / 3, math.sqrt(5) / 3]
    np.testing.assert_allclose(prototypicality(tracked_run), expected, rtol=1e-6)


def test_a_class_of_one_example_has_distance_zero(tmp_path):
    data = two_pixels([[10, 20]] * 5, [0, 1, 1, 1, 1])
    tracked_run = tracked_model(tmp_path, data, linear([[1.0, 0], [0, 1.0]]))
    assert prototypicality(tracked_run).tolist() == pytest.approx([0] * 5, abs=1e-6)


def test_depth_is_the_first_position_from_which_on_all_agree():
    agrees = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, 0]]).T.bool()
    assert depth(agrees).tolist() == [0, 1, 2, 2, 3]


def test_a_vote_leaves_out_the_example_itself_and_ties_go_to_the_smaller_class():
    references = torch.tensor([[0.0], [1], [2], [10]])
    labels = torch.tensor([1, 0, 0, 1])
    # Fewer than thirty: all the others vote. The first's: 0, 0, 1; that of the one
    # that is no reference: 1, 0, 0, three of them.
    found = vote(torch.tensor([[0.0], [10], [-5]]), references, labels, torch.tensor([0, 3, -1]), 2)
    assert found.tolist() == [0, 0, 0]
    tied = vote(
        torch.zeros(1, 1), torch.tensor([[1.0], [2], [3]]), torch.tensor([1, 0, 1]), torch.tensor([2]), 2
    )
    assert tied.tolist() == [0]


def test_prediction_depth_of_separate_classes_is_0_and_of_a_wrong_label_the_deepest(tmp_path):
    """Forty images near (0, 0) and forty near (1, 1), classified correctly, then all wrong."""
    near = [[value % 7, value % 5] for value in range(40)]
    far = [[255 - x, 255 - y] for x, y in near]
    labels = [0] * 40 + [1] * 40
    right = tracked_model(tmp_path, two_pixels(near + far, labels), linear([[0.0, 0], [9.0, 9.0]]))
    with torch.no_grad():
        right.model[-1][-1].bias[0] = 9.0
    assert prediction_depth(right).tolist() == [0] * 80
    # The network predicts the opposite: no probe of labels ever agrees.
    with torch.no_grad():
        right.model[-1][-1].weight.mul_(-1)
        right.model[-1][-1].bias.mul_(-1)
    assert set(prediction_depth(right).tolist()) == {2}


def test_probes_follow_layers_with_their_nonlinearity():
    data = datasets.load(Data(), model="small_cnn")
    cnn = models.build("small_cnn", data, seed=0)[-1]
    assert [type(module).__name__ for module in stages(cnn)] == ["ReLU", "ReLU", "Flatten", "ReLU"]
    resnet = models.build("resnet18", datasets.load(Data(), model="resnet18"), seed=0)[-1]
    names = [type(module).__name__ for module in stages(resnet)]
    assert names == ["MaxPool2d", *["BasicBlock"] * 7, "AdaptiveAvgPool2d"]


@pytest.mark.parametrize("model", ["mlp", "resnet18", "mobilenet_v3_small", "densenet121"])
def test_every_probe_supports_every_kind_of_network(tmp_path, model):
    images = torch.randint(
        0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    train = in_memory(images, torch.tensor([0, 1] * 4), "train")
    data = DataSet(train, train, ["a", "b"], ImageAdapter((3, 32, 32), [0.5] * 3, [0.2] * 3))
    tracked_run = tracked_model(tmp_path, data, models.build(model, data, seed=0))
    for probe in (grand, grand_last_layer, prediction_depth, prototypicality):
        found = probe(tracked_run)
        assert found.shape == (8,)
        assert np.isfinite(found).all()


def test_a_network_without_a_last_linear_layer_is_refused(tmp_path):
    data = datasets.load(Data(), model="mlp")
    body = nn.Sequential(nn.Conv2d(3, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = data.adapter.network(body, "mlp", "float32", channels=3)
    for probe in (grand_last_layer, prototypicality):
        with refused("no-last-linear-layer", model="mlp"):
            probe(tracked_model(tmp_path, data, model))


def test_a_network_that_computes_in_bfloat16_has_a_last_layer_too(tmp_path):
    """Also if its logits are large, and therefore coarse."""
    data = datasets.load(Data(), model="mlp")
    model = models.build("mlp", data, seed=0, precision="bf16")
    with torch.no_grad():
        model[-1][-1].weight.mul_(100)
    tracked_run = tracked_model(tmp_path, data, model)
    for probe in (grand_last_layer, prototypicality, prediction_depth):
        assert np.isfinite(probe(tracked_run)).all()


def test_the_number_of_features_of_a_position_is_bounded():
    assert _flat(torch.zeros(2, 3, 32, 32)).shape == (2, 48)
    assert _flat(torch.zeros(2, 128, 8, 8)).shape == (2, 2048)
    assert _flat(torch.zeros(2, 512, 7, 7)).shape == (2, 2048)
    assert _flat(torch.zeros(2, 2048, 7, 7)).shape == (2, 2048)
    # Tokens of a transformer.
    assert _flat(torch.zeros(2, 197, 768)).shape == (2, 768)


def test_folds_cover_every_example_once_and_spread_each_class():
    labels = np.repeat([0, 1, 2], [11, 23, 2])
    ids = np.setdiff1d(np.arange(36), [5])
    found = folds(labels, ids, seed=3)
    assert np.array_equal(np.sort(np.concatenate(found)), ids)
    counts = np.array([np.bincount(labels[fold], minlength=3) for fold in found])
    assert np.ptp(counts, axis=0).max() <= 1
    assert np.ptp([len(fold) for fold in found]) <= 1
    with refused("fewer-examples-than-folds", examples=4, folds=FOLDS):
        folds(labels, ids[:4], seed=3)


def test_self_confidence_is_of_networks_that_never_saw_the_example(tmp_path):
    """An example whose label contradicts its many duplicates: a network trained on it would fit it."""
    pixels, labels = [[0, 255], [255, 0]] * 20, [0, 1] * 20
    labels[0] = 1
    data = two_pixels(pixels, labels)
    tracked_run = tracked_model(tmp_path, data, linear([[0.0, 0], [0, 0]]), epochs=20, lr=0.1, batch_size=8)
    found = self_confidence(tracked_run)
    assert found[0] < 0.2
    assert found[1:].min() > 0.7
    probabilities = np.concatenate([each for _, each in out_of_fold(tracked_run)])
    assert probabilities.shape == (40, 2)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    # Stored folds are not trained again; a fold with other examples is an error.
    parts = sorted((tmp_path / "out-of-fold").iterdir())
    assert [part.name for part in parts] == [f"fold={number}.parquet" for number in range(5)]
    before = parts[0].read_bytes()
    parts[1].unlink()
    np.testing.assert_array_equal(self_confidence(tracked_run), found)
    assert parts[0].read_bytes() == before
    parts[0].write_bytes(parts[1].read_bytes())
    with refused("wrong-fold", path=str(parts[0])):
        self_confidence(tracked_run)


def test_unreadable_examples_have_no_score(tmp_path):
    data = two_pixels(*FIVE)
    data = replace(data, train=replace(data.train, unreadable=np.array([1])))
    tracked_run = tracked_model(tmp_path, data, linear([[1.0, 0], [0, 1.0]]))
    for probe in (grand, grand_last_layer, prototypicality, prediction_depth):
        assert np.isnan(probe(tracked_run)).tolist() == [False, True, False, False, False]


def test_every_probe_of_the_registry_exists():
    for score in SCORES.values():
        assert callable(score.load())

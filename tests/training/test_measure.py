import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from hardness import datasets, models
from hardness.config import Data
from hardness.resources import Resources
from hardness.training.measure import Group, measure_coherence


@pytest.fixture(scope="module")
def data():
    return datasets.load(Data(), model="mlp")


@pytest.mark.parametrize("name", ["mlp", "small_cnn"])
def test_coherence_of_the_network_against_the_gradients_of_sum_and_examples(data, name):
    model = models.build(name, data, seed=0)
    ids = np.array([3, 10, 200, 201, 5])
    found = measure_coherence(model, [Group("some", data.train, ids)], 4, Resources())
    parameters = list(model.parameters())

    def squared_norm(ids) -> float:
        images, labels, _ = data.train.__getitems__(ids)
        loss = F.cross_entropy(model(images), labels, reduction="sum")
        return sum(part.double().square().sum().item() for part in torch.autograd.grad(loss, parameters))

    whole = found.loc[0]
    assert (whole["epoch"], whole["measured_on"], whole["layer"]) == (4, "some", "whole network")
    expected = squared_norm(ids) / sum(squared_norm([example_id]) for example_id in ids)
    assert whole["m_coherence"] == pytest.approx(expected, rel=1e-4)
    images, labels, _ = data.train.__getitems__(ids)
    assert whole["mean_loss"] == pytest.approx(F.cross_entropy(model(images), labels).item(), rel=1e-5)
    layers = [name for name, module in model.named_modules() if hasattr(module, "weight")]
    assert found["layer"].tolist() == ["whole network", *layers]


def test_copies_of_one_example_have_the_largest_coherence(data):
    model = models.build("mlp", data, seed=0)
    same = measure_coherence(model, [Group("same", data.train, np.full(7, 42))], 0, Resources())
    np.testing.assert_allclose(same["m_coherence"], 7, rtol=1e-5)
    np.testing.assert_allclose(same["coherence"], 1, rtol=1e-5)


def test_coherence_is_null_if_all_gradients_vanish(data):
    model = models.build("mlp", data, seed=0)
    label = data.train.given_labels[0].item()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model[-1][-1].bias[label] = 1e4
    found = measure_coherence(model, [Group("fitted", data.train, np.array([0, 0]))], 1, Resources())
    assert found["m_coherence"].isna().all()
    assert found["mean_loss"].tolist() == [0.0] * len(found)
    assert pd.isna(found.loc[0, "coherence"])

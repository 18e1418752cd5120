import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hardness import datasets, gradients, models
from hardness.config import Data
from hardness.gradients import gradients_of, per_example_gradients
from hardness.resources import Resources


@pytest.mark.parametrize("name", ["mlp", "small_cnn"])
def test_per_example_gradients_equal_those_of_single_examples(name):
    data = datasets.load(Data(), model=name)
    model = models.build(name, data, seed=0)
    images, labels, _ = data.train.__getitems__(range(5))
    gradients, losses, logits = per_example_gradients(model, images, labels)
    torch.testing.assert_close(logits, model(images).detach())
    torch.testing.assert_close(losses, F.cross_entropy(model(images), labels, reduction="none").detach())
    for number in range(5):
        loss = F.cross_entropy(model(images[number : number + 1]), labels[number : number + 1])
        alone = torch.autograd.grad(loss, list(model.parameters()))
        for (key, _), expected in zip(model.named_parameters(), alone, strict=True):
            torch.testing.assert_close(gradients[key][number], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["mlp", "resnet18"])
def test_in_chunks_they_equal_those_of_single_examples_in_evaluation_mode(name, monkeypatch):
    """Also with batch normalization, which uses its running statistics."""
    data = datasets.load(Data(), model=name)
    model = models.build(name, data, seed=0)
    with torch.no_grad():
        model.train()(data.train.__getitems__(range(64))[0])
    ids = np.array([7, 3, 500])
    size = 4 * models.num_parameters(model)
    monkeypatch.setitem(gradients._CHUNK_BYTES, "cpu", 2 * size)
    chunks = list(gradients_of(model, data.train, ids, Resources()))
    assert [len(losses) for _, _, losses in chunks] == [2, 1]
    assert torch.cat([example_ids for example_ids, _, _ in chunks]).tolist() == ids.tolist()
    assert not model.training
    for number, example_id in enumerate(ids):
        image, label, _ = data.train.__getitems__([example_id])
        loss = F.cross_entropy(model(image), label)
        alone = torch.autograd.grad(loss, list(model.parameters()))
        _, found, losses = chunks[number // 2]
        torch.testing.assert_close(losses[number % 2], loss.detach())
        for (key, _), expected in zip(model.named_parameters(), alone, strict=True):
            torch.testing.assert_close(found[key][number % 2], expected, rtol=1e-3, atol=1e-5)

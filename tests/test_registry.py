import pytest
import torch
import torchvision
from torch.nn import functional as F

from hardness import datasets, models, optim
from hardness.config import Data
from hardness.registry import (
    DATASETS,
    OPTIMIZERS,
    OWN_MODELS,
    Entry,
    Registry,
    check_model,
    torchvision_models,
)
from hardness.training.step import train_step
from tests.conftest import refused


def test_torchvisions_names_are_read_from_its_source():
    assert torchvision_models() == sorted(torchvision.models.list_models(module=torchvision.models))


@pytest.mark.parametrize("registry", [DATASETS, OPTIMIZERS, OWN_MODELS], ids=lambda registry: registry.kind)
def test_every_entry_points_at_code(registry):
    for entry in registry.values():
        assert callable(entry.load())


def test_a_name_given_twice_raises():
    entry = Entry("x", "", "m:a")
    with pytest.raises(ValueError, match="registered twice"):
        Registry("a thing", entry, entry)


def test_unknown_names_are_answered_with_the_nearest():
    with refused("unknown-name", name="resnet81") as caught:
        check_model("resnet81")
    assert caught.value.values["near"].startswith("resnet18")
    with refused("unknown-name", name="rm33", near="rm3 or m3 or ra3"):
        OPTIMIZERS["rm33"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_trains_a_small_net(name):
    data = datasets.load(Data(), model="mlp")
    model = models.build("mlp", data, seed=0)
    # Adam's step is as long as its learning rate, whatever the gradient.
    optimizer = optim.build(name, model.parameters(), lr=0.003 if name.startswith("adam") else 0.1)
    images, labels, _ = data.train.__getitems__(range(32))
    losses = [train_step(model, optimizer, images, labels)[0].item() for _ in range(40)]
    assert losses[-1] < 0.5 * losses[0]
    assert torch.isfinite(F.cross_entropy(model(images), labels))

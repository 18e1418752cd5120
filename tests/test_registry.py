import inspect
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
import torchvision
from torch.nn import functional as F

from hardness import datasets, models, optim, registry
from hardness.config import Data
from hardness.datasets.source import Source
from hardness.registry import MODELS, OPTIMIZERS, SOURCES, STAGES, Registry, check_model, torchvision_models
from hardness.training.step import train_step
from tests.conftest import refused


def test_torchvisions_names_are_read_from_its_source():
    assert torchvision_models() == sorted(torchvision.models.list_models(module=torchvision.models))


@pytest.mark.parametrize(
    "registry", [SOURCES, OPTIMIZERS, MODELS, STAGES], ids=lambda registry: registry.kind
)
def test_every_entry_is_found_with_its_summary(registry):
    for entry in registry.values():
        assert inspect.getdoc(entry.load()).splitlines()[0] == entry.summary


def test_every_stage_has_a_function_of_its_settings():
    for entry in STAGES.values():
        assert get_type_hints(entry.code())["config"] is entry.load()


def test_names_are_as_documented():
    assert {*SOURCES} == {"digits", "imagefolder", "imagenet", "packed", "parquet", "tar", "torchvision"}
    assert [*MODELS] == ["mlp", "small_cnn"]
    assert [*OPTIMIZERS][:4] == ["sgd", "sgdm", "adam", "adamw"]
    assert {*OPTIMIZERS} - {"sgd", "sgdm", "adam", "adamw"} == {
        *("m3", "a3", "rm3", "ra3", "ra3-scaled", "winsorized")
    }
    assert all(issubclass(entry.load(), Source) for entry in SOURCES.values())


def test_a_file_registers_names_without_being_imported(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "__file__", str(tmp_path / "registry.py"))
    (tmp_path / "things").mkdir()
    code = 'raise RuntimeError\n@THINGS.register(\'one\')\ndef first():\n    """The first."""\n'
    (tmp_path / "things/a.py").write_text(code)
    (entry,) = Registry("a thing", "things").values()
    assert (entry.name, entry.summary, entry.target) == ("one", "The first.", "hardness.things.a:first")
    Path(tmp_path, "things/b.py").write_text(code)
    with pytest.raises(ValueError, match="'one' is registered twice"):
        len(Registry("a thing", "things"))


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

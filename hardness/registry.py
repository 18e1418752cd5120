"""Every name a user can give to ``--model``, ``--optimizer`` and ``--data``, and what stands behind it.

An entry points at its code by name, so that a mistyped name is refused before torch is imported.
Scores have their own registry, next to their code, in ``hardness.dynamics.scores``.
"""

import importlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hardness.errors import UserError, unknown_name


@dataclass(frozen=True)
class Entry:
    """A name, one line about it, and where its code is (``module:attribute``)."""

    name: str
    summary: str
    target: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments that the name stands for."""
    is_robust: bool = False
    """Optimizers: steps along a statistic of three gradients, where momentum was found unstable."""
    stands_alone: bool = False
    """Robust optimizers: its direction is no method for another one."""

    @property
    def is_method(self) -> bool:
        return self.is_robust and not self.stands_alone

    def load(self) -> Any:
        module, attribute = self.target.split(":")
        return getattr(importlib.import_module(module), attribute)


class Registry(dict[str, Entry]):
    """Names of one kind. A name given twice raises; an unknown one is answered with the nearest."""

    def __init__(self, kind: str, *entries: Entry):
        super().__init__()
        self.kind = kind
        for entry in entries:
            if entry.name in self:
                raise ValueError(f"{kind} {entry.name!r} is registered twice")
            self[entry.name] = entry

    def __missing__(self, name: str) -> Entry:
        raise unknown_name(self.kind, name, self)


OPTIMIZERS = Registry(
    "an optimizer",
    Entry("sgd", "SGD, momentum 0", "torch.optim:SGD", {"momentum": 0.0}),
    Entry("sgdm", "SGD, momentum 0.9", "torch.optim:SGD", {"momentum": 0.9}),
    Entry("m3", "median of three group gradients", "hardness.optim.m3:M3", is_robust=True),
    Entry("a3", "mean of the same three", "hardness.optim.m3:A3", is_robust=True),
    Entry("rm3", "median of the last three gradients", "hardness.optim.rolling:RM3", is_robust=True),
    Entry("ra3", "average of the last three gradients", "hardness.optim.rolling:RA3", is_robust=True),
    Entry(
        "ra3-scaled",
        "the average of the last three gradients, as long as their median",
        "hardness.optim.rolling:ScaledRA3",
        is_robust=True,
        stands_alone=True,
    ),
    Entry("adam", "Adam", "torch.optim:Adam"),
    Entry("adamw", "Adam, weight decay apart from it", "torch.optim:AdamW"),
    Entry(
        "winsorized",
        "mean of per-example gradients, clipped at the second smallest and largest",
        "hardness.optim.winsorized:WinsorizedSGD",
        {"c": 2, "momentum": 0.0},
    ),
)

DATASETS = Registry(
    "a data set",
    Entry("digits", "1,797 digits of 8 x 8 pixels, with scikit-learn", "hardness.datasets.digits:load"),
    Entry("imagefolder", "PATH/train/CLASS/*.jpg, PATH/val/CLASS/*.jpg", "hardness.datasets.folder:load"),
    Entry(
        "imagenet",
        "the same, with ImageNet's sizes",
        "hardness.datasets.folder:load",
        {"imagenet_sizes": True},
    ),
    Entry("tar", "PATTERN, tars of class folders or of WebDataset's samples", "hardness.datasets.tar:load"),
    Entry("parquet", "PATTERN:IMAGE:LABEL, files with a column of images", "hardness.datasets.parquet:load"),
    Entry("packed", "PATH, a folder that `hardness pack` wrote", "hardness.datasets.packed:load"),
    Entry("torchvision", "NAME:PATH, one of torchvision's data sets", "hardness.datasets.vision:load"),
)

TORCHVISION_DATASETS = ("MNIST", "FashionMNIST", "CIFAR10", "CIFAR100")

OWN_MODELS = Registry(
    "a model",
    Entry("mlp", "two hidden layers of 256, no batch normalisation", "hardness.models:mlp"),
    Entry("small_cnn", "three convolutions, no batch normalisation", "hardness.models:small_cnn"),
)


def torchvision_models() -> list[str]:
    """The names of torchvision's classifiers, read from its source: importing it would import torch."""
    package = importlib.util.find_spec("torchvision")
    folder = Path(package.origin).parent / "models"
    pattern = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
    return sorted(name for file in folder.glob("*.py") for name in pattern.findall(file.read_text()))


def check_model(name: str) -> None:
    """Raise ``UserError`` for a model that neither we nor torchvision have."""
    if name not in OWN_MODELS and name not in (others := torchvision_models()):
        raise unknown_name(
            "a model", name, [*OWN_MODELS, "resnet18", "resnet50", "vgg13_bn", "inception_v3", *others]
        )


def parse_optimizer(name: str) -> tuple[str | None, Entry]:
    """``rm3+adamw`` -> (``rm3``, AdamW's entry); ``adamw`` -> (None, the same).

    Raises ``UserError`` for a name that isn't there, and for a combination that makes no sense.
    """
    method, plus, base = name.rpartition("+")
    if not plus:
        return None, OPTIMIZERS[name]
    methods = [each.name for each in OPTIMIZERS.values() if each.is_method]
    if method not in methods:
        raise unknown_name("a robust method before the +", method, methods)
    if OPTIMIZERS[base].is_robust or base == "winsorized":
        raise UserError("a plain optimizer after the +", name, f"write {method}+sgd or {method}+adamw")
    return method, OPTIMIZERS[base]


def parse_data(data: str) -> tuple[Entry, str]:
    """``imagefolder:PATH`` -> (its entry, ``PATH``); the place is empty where none is given."""
    kind, _, place = data.partition(":")
    return DATASETS[kind], place

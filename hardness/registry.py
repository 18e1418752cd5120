"""The valid names of ``--model``, ``--optimizer`` and ``--data``.

An entry refers to its code by name, so that an unknown name is rejected before torch is imported.
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
    """A name, a one-line summary, and where its code is (``module:attribute``)."""

    name: str
    summary: str
    target: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments for that code."""
    is_robust: bool = False
    """Optimizers: combines three gradients; the paper found momentum unstable with these."""
    stands_alone: bool = False
    """Robust optimizers: cannot be combined with another one, as in rm3+adamw."""

    @property
    def is_method(self) -> bool:
        return self.is_robust and not self.stands_alone

    def load(self) -> Any:
        module, attribute = self.target.split(":")
        return getattr(importlib.import_module(module), attribute)


class Registry(dict[str, Entry]):
    """Names of one kind. A duplicate raises; the error for an unknown name lists similar ones."""

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
    Entry("a3", "mean of three group gradients", "hardness.optim.m3:A3", is_robust=True),
    Entry("rm3", "median of the last three gradients", "hardness.optim.rolling:RM3", is_robust=True),
    Entry("ra3", "average of the last three gradients", "hardness.optim.rolling:RA3", is_robust=True),
    Entry(
        "ra3-scaled",
        "average of the last three gradients, rescaled to the norm of their median",
        "hardness.optim.rolling:ScaledRA3",
        is_robust=True,
        stands_alone=True,
    ),
    Entry("adam", "Adam", "torch.optim:Adam"),
    Entry("adamw", "Adam with decoupled weight decay", "torch.optim:AdamW"),
    Entry(
        "winsorized",
        "mean of per-example gradients, clipped at the second smallest and largest",
        "hardness.optim.winsorized:WinsorizedSGD",
        {"c": 2, "momentum": 0.0},
    ),
)

DATASETS = Registry(
    "a data set",
    Entry("digits", "1,797 digits of 8 x 8 pixels, from scikit-learn", "hardness.datasets.digits:load"),
    Entry("imagefolder", "PATH/train/CLASS/*.jpg, PATH/val/CLASS/*.jpg", "hardness.datasets.folder:load"),
    Entry(
        "imagenet",
        "PATH, an image folder with ImageNet's image sizes",
        "hardness.datasets.folder:load",
        {"imagenet_sizes": True},
    ),
    Entry(
        "tar", "PATTERN, tar files of class folders or of WebDataset samples", "hardness.datasets.tar:load"
    ),
    Entry(
        "parquet",
        "PATTERN:IMAGE:LABEL, Parquet files with a column of images",
        "hardness.datasets.parquet:load",
    ),
    Entry("packed", "PATH, a folder that `hardness pack` wrote", "hardness.datasets.packed:load"),
    Entry("torchvision", "NAME:PATH, one of torchvision's data sets", "hardness.datasets.vision:load"),
)

TORCHVISION_DATASETS = ("MNIST", "FashionMNIST", "CIFAR10", "CIFAR100")

OWN_MODELS = Registry(
    "a model",
    Entry("mlp", "two hidden layers of 256, no batch normalization", "hardness.models:mlp"),
    Entry("small_cnn", "three convolutions, no batch normalization", "hardness.models:small_cnn"),
)


def torchvision_models() -> list[str]:
    """The names of torchvision's classifiers, read from its source, since importing it imports torch."""
    package = importlib.util.find_spec("torchvision")
    folder = Path(package.origin).parent / "models"
    pattern = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
    return sorted(name for file in folder.glob("*.py") for name in pattern.findall(file.read_text()))


def check_model(name: str) -> None:
    """Raise ``UserError`` for an unknown model, ours and torchvision's."""
    if name not in OWN_MODELS and name not in (others := torchvision_models()):
        raise unknown_name(
            "a model", name, [*OWN_MODELS, "resnet18", "resnet50", "vgg13_bn", "inception_v3", *others]
        )


def parse_optimizer(name: str) -> tuple[str | None, Entry]:
    """``rm3+adamw`` -> (``rm3``, AdamW's entry); ``adamw`` -> (None, the same).

    Raises ``UserError`` for unknown names and invalid combinations.
    """
    method, plus, base = name.rpartition("+")
    if not plus:
        return None, OPTIMIZERS[name]
    methods = [each.name for each in OPTIMIZERS.values() if each.is_method]
    if method not in methods:
        raise unknown_name("a robust method before the +", method, methods)
    if OPTIMIZERS[base].is_robust or base == "winsorized":
        sentence, hint = "{base} cannot follow the + in {name}.", "Write {method}+sgd or {method}+adamw."
        raise UserError("not-a-base-optimizer", sentence, hint, name=name, method=method, base=base)
    return method, OPTIMIZERS[base]


def parse_data(data: str) -> tuple[Entry, str]:
    """``imagefolder:PATH`` -> (its entry, ``PATH``); the path is empty if none is given."""
    kind, _, place = data.partition(":")
    return DATASETS[kind], place

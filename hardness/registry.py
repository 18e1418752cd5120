"""The names of models, optimizers and data sets, each registered by a decorator beside its code::

    @MODELS.register("mlp", "two hidden layers of 256 units, no batch normalization")
    def mlp(input_shape, num_classes): ...

Names are read from the source files, because most of them import torch, and a wrong name is refused
before that. So the arguments of a decorator must be literals. Scores have a registry of the same kind in
``hardness.dynamics.scores``.
"""

import ast
import importlib
import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from hardness.errors import UserError, unknown_name

_DECORATED = re.compile(
    r"^@[A-Z]+\.register\((.*?)\)\n(?:@[^\n]*\n)*(?:class|def) (\w+)", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Entry:
    """A name, a one-line summary, and where its code is (``module:attribute``)."""

    name: str
    summary: str
    target: str

    def load(self) -> Any:
        module, attribute = self.target.split(":")
        return getattr(importlib.import_module(module), attribute)


@dataclass(frozen=True)
class OptimizerEntry(Entry):
    """What must be known of an optimizer before it is built."""

    is_base: bool = False
    """May follow the + in rm3+adamw."""
    is_method: bool = False
    """May precede the +."""
    is_robust: bool = False
    """Combines three gradients; the paper found momentum unstable with these."""
    takes_momentum: bool = True
    compiles: bool = True
    """Works with ``--compile``."""
    controls: tuple[str, ...] = ()
    """The optimizers that differ from it only in the median, the closest one last."""
    color: str | None = None
    """In figures."""


EntryType = TypeVar("EntryType", bound=Entry)


class Registry(Mapping[str, EntryType], Generic[EntryType]):
    """The names of one kind that the files of a package register; the error for any other lists similar ones.

    A name that is registered twice raises ``ValueError``.
    """

    def __init__(self, kind: str, package: str, entry_type: type[EntryType] = Entry):
        self.kind, self.package, self.entry_type = kind, package, entry_type

    def register(self, name: str, summary: str, **settings: Any) -> Callable[[Any], Any]:
        """A decorator that changes nothing; ``settings``: fields of the entry."""
        return lambda code: code

    @cached_property
    def _entries(self) -> dict[str, EntryType]:
        entries: dict[str, EntryType] = {}
        for path in sorted((Path(__file__).parent / self.package).glob("*.py")):
            for arguments, attribute in _DECORATED.findall(path.read_text(encoding="utf-8")):
                call = ast.parse(f"register({arguments})", mode="eval").body
                name, summary = map(ast.literal_eval, call.args)
                settings = {each.arg: ast.literal_eval(each.value) for each in call.keywords}
                if name in entries:
                    raise ValueError(f"{self.kind} {name!r} is registered twice")
                target = f"hardness.{self.package}.{path.stem}:{attribute}"
                entries[name] = self.entry_type(name, summary, target, **settings)
        return entries

    def __getitem__(self, name: str) -> EntryType:
        if name not in self._entries:
            raise unknown_name(self.kind, name, self)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


MODELS = Registry("a model", "models")
OPTIMIZERS = Registry("an optimizer", "optim", OptimizerEntry)
SOURCES = Registry("a data set", "datasets")


@cache
def torchvision_models() -> list[str]:
    """The names of torchvision's classifiers, read from its source, since importing it imports torch."""
    package = importlib.util.find_spec("torchvision")
    folder = Path(package.origin).parent / "models"
    pattern = re.compile(r"^@register_model\(\)\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
    return sorted(name for file in folder.glob("*.py") for name in pattern.findall(file.read_text()))


def source_of(data: str) -> Any:
    """``imagefolder:PATH`` -> its ``hardness.datasets.source.Source``.

    Raises ``UserError`` for an unknown name.
    """
    name, _, place = data.partition(":")
    return SOURCES[name].load()(name, place)


def check_model(name: str) -> None:
    """Raise ``UserError`` for an unknown model, ours and torchvision's."""
    if name not in MODELS and name not in (others := torchvision_models()):
        common = [*MODELS, "resnet18", "resnet50", "vgg13_bn", "inception_v3"]
        raise unknown_name("a model", name, [*common, *others])


def parse_optimizer(name: str) -> tuple[str | None, OptimizerEntry]:
    """``rm3+adamw`` -> (``rm3``, AdamW's entry); ``adamw`` -> (None, the same).

    Raises ``UserError`` for unknown names and invalid combinations.
    """
    method, plus, base = name.rpartition("+")
    entry = OPTIMIZERS[base]
    if not plus:
        return None, entry
    methods = [each.name for each in OPTIMIZERS.values() if each.is_method]
    if method not in methods:
        raise unknown_name("a robust method before the +", method, methods)
    if not entry.is_base:
        sentence, hint = "{base} cannot follow the + in {name}.", "Write {method}+sgd or {method}+adamw."
        raise UserError("not-a-base-optimizer", sentence, hint, name=name, method=method, base=base)
    return method, entry

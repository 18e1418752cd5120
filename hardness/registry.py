"""The names of models, optimizers, data sets, stages, scores; each is registered by a decorator at its code::

    @MODELS.register("mlp")
    def mlp(input_shape, num_classes):
        \"\"\"Two hidden layers of 256 units, no batch normalization.\"\"\"

Names, and the first lines of docstrings, are read from the source files, because most of them import torch,
and a wrong name is refused before that. So the arguments of a decorator must be literals. The registry of
scores is in ``hardness.dynamics.scores``.
"""

import ast
import importlib
import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from hardness.errors import UserError, unknown_name

_DECORATED = re.compile(
    r'^@[A-Z]+\.register\((.*?)\)\n(?:@[^\n]*\n)*(?:class|def) (\w+).*?\n    """(.*?)(?:\n|""")',
    re.MULTILINE | re.DOTALL,
)
"""(arguments, name of the class or function, first line of its docstring)."""


@dataclass(frozen=True)
class Entry:
    """A name, a one-line summary, and where its code is (``module:attribute``)."""

    name: str
    summary: str
    target: str

    def load(self) -> Any:
        return _load(self.target)


@dataclass(frozen=True)
class SourceEntry(Entry):
    syntax: str = "PATH"
    """What follows the name and a colon; empty: nothing does."""

    @property
    def form(self) -> str:
        return f"{self.name}:{self.syntax}" if self.syntax else self.name


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


@dataclass(frozen=True)
class StageEntry(Entry):
    """What the command line, recipes and reports must know of a stage: a function of its settings."""

    in_recipes: bool = False
    inputs: Mapping[str, str] = field(default_factory=dict)
    """In recipes: stage that it may come from -> the setting that takes its output."""
    pooled: tuple[str, ...] = ()
    """Those of these settings that take the outputs of all runs of a stage, not of one."""
    trains: bool = False
    """Trains networks, in a run folder that can be resumed."""
    many_ranks: bool = False
    """Works in several processes, which ``torchrun`` starts."""
    gpus: int = 0
    """That one of its runs uses by default."""
    in_run_json: tuple[str, ...] = ()
    """Keys that the run.json of a finished run must have."""

    function: str = ""
    """Its code (``module:attribute``) takes an object of the registered class, its settings. Default: the
    function of its name in ``hardness.stages``."""

    def code(self) -> Callable[[Any], Path | None]:
        """Settings -> the path of the output."""
        return _load(self.function or f"hardness.stages.{self.name}:{self.name}")


EntryType = TypeVar("EntryType", bound=Entry)
Code = TypeVar("Code", bound=Callable[..., Any])


class Registry(Mapping[str, EntryType], Generic[EntryType]):
    """The names of one kind that the files of a package register; the error for any other lists similar ones.

    A name that is registered twice raises ``ValueError``. ``first``: names that come before the others.
    """

    def __init__(
        self, kind: str, *packages: str, entry_type: type[EntryType] = Entry, first: Sequence[str] = ()
    ):
        self.kind, self.packages, self.entry_type, self.first = kind, packages, entry_type, first

    def register(self, name: str, **settings: Any) -> Callable[[Code], Code]:
        """A decorator that changes nothing; ``settings``: fields of the entry."""
        return lambda code: code

    @cached_property
    def _entries(self) -> dict[str, EntryType]:
        entries: dict[str, EntryType] = {}
        root = Path(__file__).parent
        for path in (path for package in self.packages for path in sorted((root / package).glob("*.py"))):
            for arguments, attribute, summary in _DECORATED.findall(path.read_text(encoding="utf-8")):
                call = ast.parse(f"register({arguments})", mode="eval").body
                (name,) = map(ast.literal_eval, call.args)
                settings = {each.arg: ast.literal_eval(each.value) for each in call.keywords}
                if name in entries:
                    raise ValueError(f"{self.kind} {name!r} is registered twice")
                target = f"hardness.{path.parent.name}.{path.stem}:{attribute}"
                entries[name] = self.entry_type(name, summary, target, **settings)
        return {name: entries[name] for name in (*self.first, *entries)}

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
OPTIMIZERS = Registry("an optimizer", "optim", entry_type=OptimizerEntry)
SOURCES = Registry("a data set", "datasets", entry_type=SourceEntry)
STAGES = Registry(
    "a stage",
    "settings",
    "stages",
    entry_type=StageEntry,
    first=(
        *("demo", "run", "pack", "track", "show", "score", "labels", "split"),
        *("retrain", "memorize", "report"),
    ),
)


def _load(target: str) -> Any:
    module, attribute = target.split(":")
    return getattr(importlib.import_module(module), attribute)


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

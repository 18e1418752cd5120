"""The stages as functions: the settings of the command line are their keyword arguments.

Type checkers and editors know the arguments: those of the dataclass of a stage's settings. Paths may be
strings, and lists may stand for tuples.
"""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, Protocol, get_type_hints, overload

from pydantic import TypeAdapter

from hardness.registry import STAGES
from hardness.settings.memorize import Memorize
from hardness.settings.report import Report
from hardness.settings.retrain import Retrain
from hardness.settings.track import Track
from hardness.stages import own_training

Settings = ParamSpec("Settings")
Own = ParamSpec("Own")


class StageOrOwn(Protocol[Settings, Own]):
    """A stage that trains as its settings say, or with ``train=`` by a function of yours."""

    @overload
    def __call__(self, *args: Settings.args, **settings: Settings.kwargs) -> Path: ...

    @overload
    def __call__(self, *args: Own.args, **settings: Own.kwargs) -> Path: ...


def _stage(settings_type: Callable[Settings, object]) -> Callable[Settings, Path]:
    """The function of a stage: its settings -> the path of its output."""
    stage = settings_type.__name__.lower()
    types = get_type_hints(settings_type)

    def run(*args: Settings.args, **settings: Settings.kwargs) -> Path:
        if args:
            raise TypeError(f"{stage}() takes its settings by name, e.g. {stage}({next(iter(types))}=...)")
        for name in settings.keys() & types.keys():
            settings[name] = TypeAdapter(types[name]).validate_python(settings[name])
        return STAGES[stage].code()(settings_type(**settings))

    run.__name__ = run.__qualname__ = stage
    run.__doc__ = f"{settings_type.__doc__}\n\nReturns the path of the output: `hardness {stage}` in Python."
    run.__signature__ = inspect.signature(settings_type).replace(return_annotation=Path)
    return run


def _stage_or_own(
    settings_type: Callable[Settings, object], own: Callable[Own, Path]
) -> StageOrOwn[Settings, Own]:
    """The function of a stage; with ``train``, of ``own``."""
    stage = _stage(settings_type)

    @functools.wraps(stage)
    def run(*args, **settings) -> Path:
        return own(*args, **settings) if args or "train" in settings else stage(**settings)

    run.__doc__ += f"\n\nWith ``train``, a function of yours trains:\n\n{inspect.getdoc(own)}"
    return run


track = _stage(Track)
retrain = _stage_or_own(Retrain, own_training.retrain)
memorize = _stage_or_own(Memorize, own_training.memorize)
report = _stage(Report)

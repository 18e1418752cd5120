"""A recipe: a TOML file -> its stages, checked, each after those that feed it.

    runs = "runs/mine"          # where its runs go; default: runs/NAME of NAME.toml

    [all]                       # settings of every stage that has them
    data = "imagefolder:data/mine"

    [track]                     # the name of a stage is its id; where it is another: stage = "track"
    seed = [0, 1, 2]            # a list where a setting takes one value is a grid

    [split]
    from = "track"              # a split of every run of track

Settings are the fields of the stage's dataclass in ``hardness.config``. Of its own a stage has ``stage``,
``from``, and what each run of it asks of a cluster: ``cpus``, ``gpus``.
"""

import dataclasses
import graphlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from hardness import config as c
from hardness.errors import UserError, unknown_name

KINDS = {
    kind.__name__.lower(): kind
    for kind in (c.Pack, c.Track, c.Score, c.Labels, c.Split, c.Retrain, c.Memorize, c.Report)
}
# Who is fed by whom: the setting that is filled in, and whether it takes all that fits, or a run each.
FEEDS = {
    (c.Track, c.Pack): ("data", False),
    (c.Memorize, c.Pack): ("data", False),
    (c.Memorize, c.Memorize): ("lr_from", True),
    (c.Score, c.Track): ("run", False),
    (c.Score, c.Split): ("split", False),
    (c.Labels, c.Track): ("run", False),
    (c.Labels, c.Score): ("run", False),
    (c.Split, c.Track): ("run", False),
    (c.Split, c.Score): ("run", False),
    (c.Retrain, c.Split): ("split", False),
    (c.Report, c.Track): ("runs", True),
    (c.Report, c.Score): ("runs", True),
    (c.Report, c.Retrain): ("runs", True),
    (c.Report, c.Memorize): ("runs", True),
}
TRAINING = (c.Track, c.Retrain, c.Memorize)
"""Those that have run folders, which a recipe names and resumes."""
_OWN = ("stage", "from", "cpus", "gpus")
_OTHER_FOLDERS = ("done", "logs")
_NOT_SET = {"resume", "download", "verify", "list"}


@dataclass(frozen=True)
class Stage:
    """One table of a recipe."""

    id: str
    kind: type
    """Its dataclass in ``hardness.config``."""
    settings: Mapping[str, Any]
    """What each of its runs has, and ``grid`` leaves open."""
    grid: Mapping[str, Sequence[Any]]
    """Setting -> its values, of which every combination is a run."""
    sources: tuple[str, ...]
    """Ids of the stages that feed it."""
    cpus: int
    """Cores of each run, on a cluster."""
    gpus: float
    """GPUs of each run, where there are any; more than one: that many processes, by ``torchrun``."""


@dataclass(frozen=True)
class Recipe:
    path: Path
    runs: Path
    """The folder of all of its runs."""
    stages: dict[str, Stage]
    """By id, each after those that feed it."""


def read(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe in a file, changed as ``--set`` says: ``ID.SETTING=VALUE``, the value as in TOML or bare.

    Raises ``UserError`` for what no recipe has: unknown stages, ids and settings (with the nearest that there
    are), values of another type, empty grids, stages that feed each other in a circle.
    """
    if not path.is_file():
        raise UserError("a recipe, a TOML file", f"no file {path}", "check the path")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"TOML in {path}", str(error), "mend the file") from error
    for change in changes:
        _change(tables, change)
    runs = Path(_converted("runs", tables.pop("runs", f"runs/{path.stem}"), Path))
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UserError(f"{name} under a stage of {path}, or [all]", "it above them", "move it")
    shared = tables.pop("all", {})
    stages = {id: _stage(id, table, list(tables)) for id, table in tables.items()}
    if not stages:
        raise UserError("a recipe with stages", f"none in {path}", "name one, e.g. [track]")
    for name in shared:
        known = [known for stage in stages.values() for known in _known(stage.kind)]
        if name not in known:
            raise unknown_name("a setting of [all]", name, known)
    for stage in stages.values():
        _check_sources(stage, stages)
    stages = {id: _with_shared(stage, shared, stages) for id, stage in stages.items()}
    try:
        order = [
            *graphlib.TopologicalSorter({id: stage.sources for id, stage in stages.items()}).static_order()
        ]
    except graphlib.CycleError as error:
        found = " from ".join(error.args[1][::-1])
        raise UserError("stages that feed others, never themselves", found, "break the circle") from None
    return Recipe(path, runs, {id: stages[id] for id in order})


def _change(tables: dict[str, Any], change: str) -> None:
    name, is_given, text = change.partition("=")
    id, _, setting = name.strip().rpartition(".")
    if not is_given or not setting:
        raise UserError("--set ID.SETTING=VALUE", repr(change), "e.g. --set track.epochs=3")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        value = text.strip()
    if not id:
        tables[setting] = value
    elif id == "all":
        tables.setdefault("all", {})[setting] = value
    elif id in tables:
        tables[id][setting] = value
    else:
        raise unknown_name("the id of a stage for --set", id, ["all", *tables])


def _stage(id: str, table: dict[str, Any], ids: list[str]) -> Stage:
    # It becomes the names of folders.
    if not re.fullmatch(r"[\w-]+", id) or id in _OTHER_FOLDERS:
        found = f"{id!r}, a folder of every recipe" if id in _OTHER_FOLDERS else repr(id)
        raise UserError("an id of letters, digits, - and _", found, "choose another")
    kind_name = _converted(f"{id}.stage", table.get("stage", id), str)
    if kind_name not in KINDS:
        raise unknown_name(f"a stage for [{id}]", kind_name, KINDS)
    kind = KINDS[kind_name]
    sources = _converted(f"{id}.from", table.get("from", []), str | list[str])
    sources = (sources,) if isinstance(sources, str) else tuple(sources)
    for source in sources:
        if source not in ids:
            raise unknown_name(f"the id of a stage for [{id}] from", source, ids)
    settings, grid = {}, {}
    for name, value in table.items():
        if name in _OWN:
            continue
        if name not in _known(kind):
            raise unknown_name(f"a setting of [{id}]", name, [*_known(kind), *_OWN])
        hint = _known(kind)[name]
        if _fits(value, hint):
            settings[_field(name)] = _converted(f"{id}.{name}", value, hint)
        elif isinstance(value, list):
            if not value:
                do = "give it values, or leave it out"
                raise UserError(f"values of {name} in [{id}]", "an empty grid", do)
            grid[_field(name)] = [_converted(f"{id}.{name}", each, hint) for each in value]
            if len({repr(each) for each in grid[_field(name)]}) < len(value):
                raise UserError(f"each {name} of [{id}] once", str(value), "drop the repeats")
        else:
            _converted(f"{id}.{name}", value, hint)
    gpus = _converted(f"{id}.gpus", table.get("gpus", 1 if kind in (*TRAINING, c.Score) else 0), float)
    if gpus > 1 and not (kind is c.Track and gpus.is_integer()):
        do = "lower gpus" if kind is c.Track else "lower gpus: of all stages track alone uses several"
        raise UserError(f"a GPU or a part of one for [{id}]", f"{gpus:g}", do)
    cpus = _converted(f"{id}.cpus", table.get("cpus", 1), int)
    if min(cpus, gpus) < 0 or cpus == 0:
        raise UserError(f"a positive cpus, and gpus of 0 or more in [{id}]", f"{cpus}, {gpus:g}", "mend them")
    return Stage(id, kind, settings, grid, sources, cpus, gpus)


def _with_shared(stage: Stage, shared: dict[str, Any], stages: dict[str, Stage]) -> Stage:
    """What [all] says holds where the stage says nothing else, and no other stage feeds it that."""
    taken = {*stage.settings, *stage.grid}
    fed = {FEEDS[stage.kind, stages[source].kind][0] for source in stage.sources}
    # A learning rate that is searched for.
    taken |= {"lr"} if "lr_from" in fed else set()
    more = {
        _field(name): _converted(f"all.{name}", value, _known(stage.kind)[name])
        for name, value in shared.items()
        if name in _known(stage.kind) and _field(name) not in taken
    }
    return dataclasses.replace(stage, settings={**more, **stage.settings})


def _check_sources(stage: Stage, stages: dict[str, Stage]) -> None:
    for source in stage.sources:
        kinds = (stage.kind, stages[source].kind)
        name, of = (kind.__name__.lower() for kind in kinds)
        if kinds not in FEEDS:
            feeders = [known.__name__.lower() for fed, known in FEEDS if fed is stage.kind]
            expected = f"[{stage.id}] from {' or '.join(feeders)}" if feeders else f"no from in [{stage.id}]"
            raise UserError(expected, f"[{source}], which is {of}", f"mend what feeds {name}")
        setting = FEEDS[kinds][0]
        if setting != "data" and (setting in stage.settings or setting in stage.grid):
            raise UserError(f"{setting} of [{stage.id}] from [{source}]", "both", f"leave out {setting}")


@cache
def _known(kind: type) -> dict[str, Any]:
    """The settings that a recipe may give a stage of that kind, each with its type."""
    hints = get_type_hints(kind)
    left_out = _NOT_SET | ({"out"} if kind in TRAINING else set())
    names = [field.name for field in dataclasses.fields(kind) if field.name not in left_out]
    return {name.rstrip("_"): hints[name] for name in names}


def _field(name: str) -> str:
    """``with`` is a word of Python's own."""
    return f"{name}_" if name == "with" else name


def _fits(value: Any, hint: Any) -> bool:
    try:
        TypeAdapter(hint).validate_python(value)
    except ValidationError:
        return False
    return True


def _converted(name: str, value: Any, hint: Any) -> Any:
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        told = error.errors()[0]["msg"]
        raise UserError(f"another {name}: {told[0].lower()}{told[1:]}", repr(value), "mend it") from error

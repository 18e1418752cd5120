"""Reads a recipe, a TOML file -> its checked stages, each after its dependencies.

    runs = "runs/mine"          # the folder of its runs; default: runs/NAME for NAME.toml

    [all]                       # settings of all stages that have them
    data = "imagefolder:data/mine"

    [track]                     # the id of a stage; if it is not the name of a stage: stage = "track"
    seed = [0, 1, 2]            # a list for a setting that takes one value is a grid

    [split]
    from = "track"              # one split per track run

``base = "NAME.toml"`` inherits the stages and settings of a recipe in the same folder.

Settings are the fields of the stage's dataclass, in ``hardness.stages``. In addition a stage has ``stage``,
``from``, and the resources of each of its runs: ``cpus``, ``gpus``.
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

from hardness.checks import require_distinct
from hardness.errors import UserError, unknown_name
from hardness.files import no_such_file
from hardness.registry import STAGES, StageEntry

_OWN = ("stage", "from", "cpus", "gpus")
_OTHER_FOLDERS = ("done", "logs")
_NOT_SET = {"resume", "download", "verify", "list"}


@dataclass(frozen=True)
class Stage:
    """One table of a recipe."""

    id: str
    entry: StageEntry
    settings: Mapping[str, Any]
    """The settings that all of its runs share."""
    grid: Mapping[str, Sequence[Any]]
    """Setting -> values; every combination is a run."""
    sources: tuple[str, ...]
    """The ids in its ``from``."""
    cpus: int
    """Cores per run, on a cluster."""
    gpus: float
    """GPUs per run, if there are any; several: as many processes, started by ``torchrun``."""


@dataclass(frozen=True)
class Recipe:
    path: Path
    runs: Path
    """The folder of its runs."""
    stages: dict[str, Stage]
    """By id, each after its dependencies."""


def read(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply the changes of ``--set``: ``ID.SETTING=VALUE``, in TOML or a bare string.

    Raises ``UserError`` for unknown stages, ids and settings (with similar names), values of the wrong type,
    empty grids and cyclic dependencies.
    """
    tables = _tables(path)
    for change in changes:
        _change(tables, change)
    runs = Path(_converted("runs", tables.pop("runs", f"runs/{path.stem}"), Path))
    for name, table in tables.items():
        if not isinstance(table, dict):
            sentence, hint = "{path} sets {name} outside of a stage.", "Move it below [all] or a stage."
            raise UserError("setting-outside-stage", sentence, hint, path=str(path), name=name)
    shared = tables.pop("all", {})
    stages = {id: _stage(id, table, list(tables)) for id, table in tables.items()}
    if not stages:
        raise UserError("no-stages", "{path} has no stages.", "Add one, e.g. [track].", path=str(path))
    for name in shared:
        known = [known for stage in stages.values() for known in _known(stage.entry)]
        if name not in known:
            raise unknown_name("a setting of [all]", name, known)
    for stage in stages.values():
        _check_sources(stage, stages)
    stages = {id: _with_shared(stage, shared, stages) for id, stage in stages.items()}
    sorter = graphlib.TopologicalSorter({id: stage.sources for id, stage in stages.items()})
    try:
        order = list(sorter.static_order())
    except graphlib.CycleError as error:
        cycle = " from ".join(error.args[1][::-1])
        sentence, hint = "Stages depend on each other in a cycle ({cycle}).", "Remove one `from`."
        raise UserError("stage-cycle", sentence, hint, cycle=cycle) from None
    return Recipe(path, runs, {id: stages[id] for id in order})


def _tables(path: Path, is_base: bool = False) -> dict[str, Any]:
    """The tables of a file, merged into those of its ``base``, a recipe in the same folder."""
    if not path.is_file():
        raise no_such_file(path, "Check the path.")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        sentence, values = "{path} is not TOML: {reason}.", {"path": str(path), "reason": str(error)}
        raise UserError("not-toml", sentence, "Correct the file.", **values) from error
    if (base := tables.pop("base", None)) is None:
        return tables
    if is_base or base != Path(_converted("base", base, str)).name:
        sentence = "{path} cannot have the base {base!r}, which must lie beside it and have no base."
        raise UserError("bad-base", sentence, "Correct it.", path=str(path), base=base)
    merged = _tables(path.with_name(base), is_base=True)
    for name, table in tables.items():
        below = merged.get(name)
        merged[name] = below | table if isinstance(below, dict) and isinstance(table, dict) else table
    return merged


def _change(tables: dict[str, Any], change: str) -> None:
    name, is_given, text = change.partition("=")
    id, _, setting = name.strip().rpartition(".")
    if not is_given or not setting:
        sentence, hint = "--set {change!r} is not ID.SETTING=VALUE.", "For example: --set track.epochs=3."
        raise UserError("not-a-change", sentence, hint, change=change)
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        value = text.strip()
    tables.setdefault("all", {})
    ids = [name for name, table in tables.items() if isinstance(table, dict)]
    if not id:
        tables[setting] = value
    elif id in ids:
        tables[id][setting] = value
    else:
        raise unknown_name("the id of a stage for --set", id, ids)


def _stage(id: str, table: dict[str, Any], ids: list[str]) -> Stage:
    # The id becomes a folder name.
    if not re.fullmatch(r"[\w-]+", id) or id in _OTHER_FOLDERS:
        sentence = "{id!r} cannot be the id of a stage."
        hint = "Choose another one, of letters, digits, - and _; done and logs are reserved."
        raise UserError("bad-stage-id", sentence, hint, id=id)
    kind_name = _converted(f"{id}.stage", table.get("stage", id), str)
    in_recipes = {name: entry for name, entry in STAGES.items() if entry.in_recipes}
    if kind_name not in in_recipes:
        raise unknown_name(f"a stage for [{id}]", kind_name, in_recipes)
    entry = in_recipes[kind_name]
    sources = _converted(f"{id}.from", table.get("from", []), str | list[str])
    sources = (sources,) if isinstance(sources, str) else tuple(sources)
    for source in sources:
        if source not in ids:
            raise unknown_name(f"the id of a stage for [{id}] from", source, ids)
    settings, grid = {}, {}
    for name, value in table.items():
        if name in _OWN:
            continue
        if name not in _known(entry):
            raise unknown_name(f"a setting of [{id}]", name, [*_known(entry), *_OWN])
        hint = _known(entry)[name]
        if isinstance(value, list) and not _fits(value, hint):
            if not value:
                sentence, hint = "{name} of [{id}] is an empty grid.", "Give it values, or remove it."
                raise UserError("empty-grid", sentence, hint, name=name, id=id)
            grid[_field(name)] = [_converted(f"{id}.{name}", each, hint) for each in value]
            require_distinct(f"{name} of [{id}]", list(map(repr, grid[_field(name)])))
        else:
            settings[_field(name)] = _converted(f"{id}.{name}", value, hint)
    gpus = _converted(f"{id}.gpus", table.get("gpus", entry.gpus), float)
    if gpus > 1 and not (entry.many_ranks and gpus.is_integer()):
        sentence = "[{id}] cannot use {gpus:g} GPUs: only track uses several, a whole number of them."
        raise UserError("too-many-gpus", sentence, "Lower gpus.", id=id, gpus=gpus)
    cpus = _converted(f"{id}.cpus", table.get("cpus", 1), int)
    if min(cpus, gpus) < 0 or cpus == 0:
        sentence = "[{id}] needs cpus of 1 or more and gpus of 0 or more (got {cpus} and {gpus:g})."
        raise UserError("no-resources", sentence, "Choose other values.", id=id, cpus=cpus, gpus=gpus)
    return Stage(id, entry, settings, grid, sources, cpus, gpus)


def _with_shared(stage: Stage, shared: dict[str, Any], stages: dict[str, Stage]) -> Stage:
    """Add the settings of [all] that the stage neither sets nor takes from another stage."""
    taken = {*stage.settings, *stage.grid}
    filled = {stage.entry.inputs[stages[source].entry.name] for source in stage.sources}
    # A learning rate search replaces lr.
    taken |= {"lr"} if "lr_from" in filled else set()
    more = {
        _field(name): _converted(f"all.{name}", value, _known(stage.entry)[name])
        for name, value in shared.items()
        if name in _known(stage.entry) and _field(name) not in taken
    }
    return dataclasses.replace(stage, settings={**more, **stage.settings})


def _check_sources(stage: Stage, stages: dict[str, Stage]) -> None:
    for source in stage.sources:
        inputs, of = stage.entry.inputs, stages[source].entry.name
        if of not in inputs:
            hint = f"It can come from {' or '.join(inputs)}." if inputs else "Remove its `from`."
            sentence = "[{id}] ({name}) cannot come from [{source}] ({of})."
            values = {"name": stage.entry.name, "of": of}
            raise UserError("wrong-source", sentence, hint, id=stage.id, source=source, **values)
        setting = inputs[of]
        if setting != "data" and (setting in stage.settings or setting in stage.grid):
            sentence = "[{id}] has {setting} twice: from [{source}], and set by itself."
            values = {"id": stage.id, "setting": setting, "source": source}
            raise UserError("setting-twice", sentence, "Remove {setting}.", **values)


@cache
def _types(settings: type) -> dict[str, Any]:
    return get_type_hints(settings)


def _known(entry: StageEntry) -> dict[str, Any]:
    """The settings of a stage in a recipe: name -> type."""
    left_out = _NOT_SET | ({"out"} if entry.trains else set())
    names = [field.name for field in dataclasses.fields(entry.load()) if field.name not in left_out]
    return {name.rstrip("_"): _types(entry.load())[name] for name in names}


def _field(name: str) -> str:
    """``with`` is a Python keyword."""
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
        values = {"name": name, "value": value, "reason": error.errors()[0]["msg"]}
        sentence, hint = "{name} cannot be {value!r}: {reason}.", "Correct it."
        raise UserError("bad-setting", sentence, hint, **values) from error

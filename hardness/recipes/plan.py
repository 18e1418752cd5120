"""The plan of a recipe: its runs, each after its dependencies, and which of them are finished."""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hardness import files
from hardness.errors import UserError
from hardness.recipes.recipe import Recipe, Stage
from hardness.registry import StageEntry
from hardness.runs.settings import OPERATIONAL, command, defaults, plain


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """One run of a stage."""

    name: str
    stage: Stage
    settings: dict[str, Any]
    """The settings of its dataclass, including inputs and outputs."""
    grid_values: dict[str, Any]
    """Its grid values: setting -> value, including those of its dependencies."""
    depends_on: tuple["PlannedRun", ...]
    output: Path
    """Its output: a run folder, a split file, packed images or a report."""
    fingerprint: str
    """A hash of its settings and of the fingerprints of its dependencies."""
    mark: Path
    """The file that marks it as done."""

    @cached_property
    def config(self) -> Any:
        """Its dataclass. Raises ``UserError`` for invalid settings, such as a missing data set."""
        return self.stage.entry.load()(**self.settings)

    @property
    def log(self) -> Path:
        """The file with the output of its process."""
        return self.mark.parents[1] / "logs" / f"{self.name}.log"

    @property
    def command(self) -> str:
        flags = {
            f"no_{name}" if value is False else name.rstrip("_"): value is False or value
            for name, value in _changed(self.stage.entry.name, self.settings).items()
        }
        return command(self.stage.entry.name, flags)

    @property
    def folder(self) -> Path | None:
        return self.output if self.stage.entry.trains else None

    @property
    def adds_to_input(self) -> bool:
        """Does it add to the output of another run, as score does?"""
        return any(self.output == run.output for run in self.upstream())

    def upstream(self) -> Iterator["PlannedRun"]:
        """The runs that it depends on, and those that they depend on."""
        for run in self.depends_on:
            yield run
            yield from run.upstream()

    @property
    def is_done(self) -> bool:
        """Raises ``UserError`` if its folder contains a run with other settings."""
        if not self.mark.exists() or not self.output.exists():
            return False
        found = self._mark()
        if found["fingerprint"] == self.fingerprint:
            return True
        if self.folder is not None:
            self._refuse(found["settings"])
        return False

    def _refuse(self, made_with: dict[str, Any]) -> None:
        by_default = defaults(self.stage.entry.name)
        now = by_default | _shaping(self.stage.entry.name, self.settings)
        was = by_default | made_with
        differ = [name for name in by_default if now[name] != was[name]]
        hint = "Choose another folder (--set runs=DIR), or remove it."
        values = {"run": str(self.output)}
        if not differ:
            sentence = "{run} was made from other runs than now."
            raise UserError("other-sources", sentence, hint, **values)
        values |= {"setting": differ[0], "before": was[differ[0]], "now": now[differ[0]]}
        sentence = "{run} was made with {setting} {before}, not {now}."
        raise UserError("recipe-changed", sentence, hint, **values)

    @property
    def num_epochs_done(self) -> int:
        """The finished epochs of an interrupted or running run."""
        log = self.output / "log.jsonl"
        return log.read_bytes().count(b"\n") if self.folder and log.exists() else 0

    @property
    def seconds(self) -> float:
        """The time that it took. Only for a finished run."""
        return self._mark()["seconds"]

    def _mark(self) -> dict[str, Any]:
        names = {"fingerprint", "seconds", "settings"}
        return files.read_json(self.mark, names, "Remove it: the run is then checked again.")

    def mark_done(self, seconds: float) -> None:
        mark = {"format_version": files.FORMAT_VERSION, "fingerprint": self.fingerprint, "seconds": seconds}
        settings = _shaping(self.stage.entry.name, self.settings)
        files.write_json(self.mark, {**mark, "settings": settings})


Sources = dict[str, PlannedRun | list[PlannedRun]]
"""Setting -> the run, or all runs, that it takes."""


def expand(recipe: Recipe, most: int | None = None) -> dict[str, PlannedRun]:
    """All runs of a recipe by name, each after its dependencies, with checked settings.

    A stage has one run per combination of its grid values with a run of each stage in its ``from``, if they
    have the same values of shared grid settings: each track run has its own split. A report takes all runs
    that match, and so does a learning rate search.

    Raises ``UserError`` for more than ``most`` runs.
    """
    runs: dict[str, PlannedRun] = {}
    of_stage: dict[str, list[PlannedRun]] = {}
    adding: dict[Path, tuple[PlannedRun]] = {}
    for stage in recipe.stages.values():
        of_stage[stage.id] = []
        for own, sources in _combinations(stage, recipe, of_stage):
            run = _run(recipe, stage, own, sources)
            if run.adds_to_input:
                # One after the other, because they write to the same folder.
                others = adding.get(run.output, ())
                run = dataclasses.replace(run, depends_on=(*run.depends_on, *others))
                adding[run.output] = (run,)
            of_stage[stage.id].append(run)
            if most is not None and sum(map(len, of_stage.values())) > most:
                sentence = "The grids of {path} have more than {most:,} runs."
                hint = "Make them smaller, or pass --yes."
                raise UserError("many-runs", sentence, hint, path=str(recipe.path), most=most)
        if not of_stage[stage.id]:
            sentence = "No runs of {sources} have the settings that [{id}] depends on."
            values = {"id": stage.id, "sources": ", ".join(stage.sources)}
            raise UserError("no-matching-source", sentence, "Correct its grid.", **values)
        for run in of_stage[stage.id]:
            if run.name in runs:
                sentence, hint = "Two runs have the name {name}.", "Give one of their stages another id."
                raise UserError("same-run-name", sentence, hint, name=run.name)
            runs[run.name] = run
    made: dict[Path, str] = {}
    for run in runs.values():
        if not run.adds_to_input and made.setdefault(run.output, run.name) != run.name:
            sentence, hint = "{first} and {second} both write {path}.", "Give them different outputs."
            values = {"first": made[run.output], "second": run.name, "path": str(run.output)}
            raise UserError("same-output", sentence, hint, **values)
    return runs


def _combinations(
    stage: Stage, recipe: Recipe, of_stage: dict[str, list[PlannedRun]]
) -> Iterator[tuple[dict[str, Any], Sources]]:
    """(own grid values, setting -> the run, or all runs, that it takes)."""
    each: dict[str, list[PlannedRun]] = {}
    every: dict[str, list[PlannedRun]] = {}
    for source in stage.sources:
        setting = stage.entry.inputs[recipe.stages[source].entry.name]
        (every if setting in stage.entry.pooled else each).setdefault(setting, []).extend(of_stage[source])
    for values in itertools.product(*stage.grid.values()):
        own = dict(zip(stage.grid, values, strict=True))
        for sources in itertools.product(*each.values()):
            grid_values = [own, *(run.grid_values for run in sources)]
            if not all(_agree(a, b) for a, b in itertools.combinations(grid_values, 2)):
                continue
            here = {name: value for each_axes in grid_values for name, value in each_axes.items()}
            gathered = {
                setting: [run for run in runs if _agree(run.grid_values, here)]
                for setting, runs in every.items()
            }
            if all(gathered.values()):
                yield own, {**dict(zip(each, sources, strict=True)), **gathered}


def _agree(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(a[name] == b[name] for name in a.keys() & b.keys())


def _run(recipe: Recipe, stage: Stage, own: dict[str, Any], sources: Sources) -> PlannedRun:
    settings, grid_values, depends_on, parts = {**stage.settings, **own}, {}, [], []
    for setting, source in sources.items():
        if isinstance(source, list):
            settings[setting] = tuple(dict.fromkeys(run.output for run in source))
            depends_on += source
            continue
        depends_on.append(source)
        grid_values |= source.grid_values
        settings |= _filled_by(stage.entry, setting, source)
        filled = [stage.entry.inputs[recipe.stages[id].entry.name] for id in stage.sources]
        if filled.count(setting) > 1:
            parts.append(source.stage.id)
    grid_values |= own
    parts += [_value_in_name(name, value) for name, value in grid_values.items()]
    name = re.sub(r"[^\w.+-]+", "-", "-".join([stage.id, *parts]))
    if stage.entry.trains:
        settings |= {"out": recipe.runs / name, "resume": True}
    if stage.entry.name == "report":
        settings.setdefault("out", Path("reports") / recipe.path.stem)
    kind = stage.entry.load()
    output = kind.output(settings)
    if not _is_packed(output):
        # Check the settings now: images by their source until they are packed, when it may be gone.
        checked = dict(settings)
        if (packing := sources.get("data")) and not _is_packed(packing.output):
            checked |= {name: getattr(packing.config, name) for name in ("data", "val_fraction")}
        kind(**checked)
    hashed = [kind.__name__, _shaping(stage.entry.name, settings), [run.fingerprint for run in depends_on]]
    fingerprint = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:16]
    return PlannedRun(
        name=name,
        stage=stage,
        settings=settings,
        grid_values=grid_values,
        depends_on=tuple(dict.fromkeys(depends_on)),
        output=output,
        fingerprint=fingerprint,
        mark=recipe.runs / "done" / f"{name}.json",
    )


def _filled_by(entry: StageEntry, setting: str, source: PlannedRun) -> dict[str, Any]:
    """The settings that a run of that stage takes from a dependency."""
    if setting == "data":
        return {"data": f"packed:{source.output}", "val_fraction": None}
    if entry.name == "score" and setting == "split":
        return {"split": source.output, "run": (source.output.parents[1],)}
    takes_several = isinstance(defaults(entry.name)[setting], list)
    return {setting: (source.output,) if takes_several else source.output}


def _is_packed(folder: Path) -> bool:
    return (folder / "pack.json").exists()


def _shaping(stage: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The non-default settings that affect the result."""
    return {name: value for name, value in _changed(stage, settings).items() if name not in OPERATIONAL}


def _changed(stage: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The non-default settings, as in JSON."""
    given = plain(settings)
    return {
        name: given[name] for name, default in defaults(stage).items() if given.get(name, default) != default
    }


def _value_in_name(setting: str, value: Any) -> str:
    """A grid value in the name of a run; numbers are prefixed with their setting."""
    values = value if isinstance(value, tuple) else (value,)
    text = "+".join(f"{each:g}" if isinstance(each, float) else str(each) for each in values)
    return text if all(isinstance(each, str) for each in values) else f"{setting}{text}"

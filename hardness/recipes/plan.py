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

from hardness import config as c
from hardness import files
from hardness.errors import UserError
from hardness.recipes.recipe import FEEDS, TRAINING, Recipe, Stage
from hardness.registry import source_of
from hardness.stages.run_settings import OPERATIONAL, command, defaults, plain
from hardness.stages.split import split_path


@dataclass(frozen=True, eq=False)
class Run:
    """One run of a stage."""

    name: str
    stage: Stage
    settings: dict[str, Any]
    """The settings of its dataclass, including inputs and outputs."""
    axes: dict[str, Any]
    """Its grid values: setting -> value, including those of its dependencies."""
    needs: tuple["Run", ...]
    """The runs that it depends on."""
    product: Path
    """Its output: a run folder, a split file, packed images or a report."""
    fingerprint: str
    """A hash of its settings and of the fingerprints of its dependencies."""
    stamp: Path
    """The file that marks it as done."""

    @cached_property
    def config(self) -> Any:
        """Its dataclass. Raises ``UserError`` for invalid settings, such as a missing data set."""
        return self.stage.kind(**self.settings)

    @property
    def log(self) -> Path:
        """The file with the output of its process."""
        return self.stamp.parents[1] / "logs" / f"{self.name}.log"

    @property
    def command(self) -> str:
        """The command that executes this run alone."""
        flags = {
            f"no_{name}" if value is False else name.rstrip("_"): value is False or value
            for name, value in _changed(self.stage.kind, self.settings).items()
        }
        return command(self.stage.kind.__name__.lower(), flags)

    @property
    def folder(self) -> Path | None:
        """Its run folder, if its stage trains."""
        return self.product if self.stage.kind in TRAINING else None

    @property
    def is_done(self) -> bool:
        """Raises ``UserError`` if its folder contains a run with other settings."""
        if not self.stamp.exists() or not self.product.exists():
            return False
        found = self._stamped()
        if found["fingerprint"] == self.fingerprint:
            return True
        if self.folder is not None:
            self._refuse(found["settings"])
        return False

    def _refuse(self, made_with: dict[str, Any]) -> None:
        by_default = defaults(self.stage.kind)
        now = by_default | _shaping(self.stage.kind, self.settings)
        was = by_default | made_with
        differ = [name for name in by_default if now[name] != was[name]]
        hint = "Choose another folder (--set runs=DIR), or remove it."
        values = {"run": str(self.product)}
        if not differ:
            sentence = "{run} was made from other runs than now."
            raise UserError("other-sources", sentence, hint, **values)
        values |= {"setting": differ[0], "before": was[differ[0]], "now": now[differ[0]]}
        sentence = "{run} was made with {setting} {before}, not {now}."
        raise UserError("other-settings", sentence, hint, **values)

    @property
    def num_epochs_done(self) -> int:
        """The finished epochs of an interrupted or running run."""
        log = self.product / "log.jsonl"
        return log.read_bytes().count(b"\n") if self.folder and log.exists() else 0

    @property
    def seconds(self) -> float:
        """The time that it took. Only for a finished run."""
        return self._stamped()["seconds"]

    def _stamped(self) -> dict[str, Any]:
        names = {"fingerprint", "seconds", "settings"}
        return files.read_json(self.stamp, names, "Remove it: the run is then checked again.")

    def mark_done(self, seconds: float) -> None:
        stamp = {
            "fingerprint": self.fingerprint,
            "seconds": seconds,
            "settings": _shaping(self.stage.kind, self.settings),
        }
        files.write_json(self.stamp, {"format_version": files.FORMAT_VERSION, **stamp})


def expand(recipe: Recipe, most: int | None = None) -> dict[str, Run]:
    """All runs of a recipe by name, each after its dependencies, with checked settings.

    A stage has one run per combination of its grid values with a run of each stage in its ``from``, if they
    have the same values of shared grid settings: each track run has its own split. A report takes all runs
    that match, and so does a learning rate search.

    Raises ``UserError`` for more than ``most`` runs.
    """
    runs: dict[str, Run] = {}
    of_stage: dict[str, list[Run]] = {}
    scored: dict[Path, tuple[Run]] = {}
    for stage in recipe.stages.values():
        of_stage[stage.id] = []
        for own, fed in _combinations(stage, recipe, of_stage):
            run = _run(recipe, stage, own, fed)
            if stage.kind is c.Score:
                # One after the other, because they write to the same table.
                run = dataclasses.replace(run, needs=(*run.needs, *scored.get(run.product, ())))
                scored[run.product] = (run,)
            of_stage[stage.id].append(run)
            if most is not None and sum(map(len, of_stage.values())) > most:
                sentence = "The grids of {path} have more than {most:,} runs."
                hint = "Make them smaller, or pass --yes."
                raise UserError("many-runs", sentence, hint, path=str(recipe.path), most=most)
        if not of_stage[stage.id]:
            sentence = "No runs of {sources} have the settings that [{id}] needs."
            values = {"id": stage.id, "sources": ", ".join(stage.sources)}
            raise UserError("no-matching-source", sentence, "Correct its grid.", **values)
        for run in of_stage[stage.id]:
            if run.name in runs:
                sentence, hint = "Two runs have the name {name}.", "Give one of their stages another id."
                raise UserError("same-run-name", sentence, hint, name=run.name)
            runs[run.name] = run
    made: dict[Path, str] = {}
    for run in runs.values():
        # Score and labels add to the output of another run.
        if run.stage.kind not in (c.Score, c.Labels) and made.setdefault(run.product, run.name) != run.name:
            sentence, hint = "{first} and {second} both write {path}.", "Give them different outputs."
            values = {"first": made[run.product], "second": run.name, "path": str(run.product)}
            raise UserError("same-output", sentence, hint, **values)
    return runs


def _combinations(
    stage: Stage, recipe: Recipe, of_stage: dict[str, list[Run]]
) -> Iterator[tuple[dict[str, Any], dict[str, Run | list[Run]]]]:
    """(own grid values, setting -> the run, or all runs, that it takes)."""
    each: dict[str, list[Run]] = {}
    every: dict[str, list[Run]] = {}
    for source in stage.sources:
        setting, takes_all = FEEDS[stage.kind, recipe.stages[source].kind]
        (every if takes_all else each).setdefault(setting, []).extend(of_stage[source])
    for values in itertools.product(*stage.grid.values()):
        own = dict(zip(stage.grid, values, strict=True))
        for fed in itertools.product(*each.values()):
            axes = [own, *(run.axes for run in fed)]
            if not all(_agree(a, b) for a, b in itertools.combinations(axes, 2)):
                continue
            here = {name: value for each_axes in axes for name, value in each_axes.items()}
            gathered = {
                setting: [run for run in runs if _agree(run.axes, here)] for setting, runs in every.items()
            }
            if all(gathered.values()):
                yield own, {**dict(zip(each, fed, strict=True)), **gathered}


def _agree(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(a[name] == b[name] for name in a.keys() & b.keys())


def _run(recipe: Recipe, stage: Stage, own: dict[str, Any], fed: dict[str, Run | list[Run]]) -> Run:
    settings, axes, needs, parts = {**stage.settings, **own}, {}, [], []
    for setting, source in fed.items():
        if isinstance(source, list):
            settings[setting] = tuple(dict.fromkeys(run.product for run in source))
            needs += source
            continue
        needs.append(source)
        axes |= source.axes
        settings |= _fed_by(stage.kind, setting, source)
        settings_fed = [FEEDS[stage.kind, recipe.stages[id].kind][0] for id in stage.sources]
        if settings_fed.count(setting) > 1:
            parts.append(source.stage.id)
    axes |= own
    parts += [_value_in_name(name, value) for name, value in axes.items()]
    name = re.sub(r"[^\w.+-]+", "-", "-".join([stage.id, *parts]))
    if stage.kind in TRAINING:
        settings |= {"out": recipe.runs / name, "resume": True}
    if stage.kind is c.Report:
        settings.setdefault("out", Path("reports") / recipe.path.stem)
    product = _product(stage.kind, settings)
    if stage.kind is not c.Pack or not _is_packed(product):
        # Check the settings now. The source of packed images may be gone.
        stage.kind(**{**settings, **_until_packed(fed)})
    hashed = [stage.kind.__name__, _shaping(stage.kind, settings), [run.fingerprint for run in needs]]
    fingerprint = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:16]
    return Run(
        name=name,
        stage=stage,
        settings=settings,
        axes=axes,
        needs=tuple(dict.fromkeys(needs)),
        product=product,
        fingerprint=fingerprint,
        stamp=recipe.runs / "done" / f"{name}.json",
    )


def _fed_by(kind: type, setting: str, source: Run) -> dict[str, Any]:
    """The settings that a run of that kind takes from a dependency."""
    if setting == "data":
        return {"data": f"packed:{source.product}", "val_fraction": None}
    if kind is c.Score and setting == "split":
        return {"split": source.product, "run": (source.product.parents[1],)}
    return {setting: (source.product,) if setting == "run" and kind is not c.Labels else source.product}


def _until_packed(fed: dict[str, Run | list[Run]]) -> dict[str, Any]:
    """Settings that check images by their source until they are packed."""
    packing = fed.get("data")
    if packing is None or _is_packed(packing.product):
        return {}
    return {name: getattr(packing.config, name) for name in ("data", "val_fraction")}


def _is_packed(folder: Path) -> bool:
    return (folder / "pack.json").exists()


def _product(kind: type, settings: dict[str, Any]) -> Path:
    if kind is c.Pack:
        return settings.get("out") or source_of(settings.get("data", c.Pack.data)).packed_folder
    if kind is c.Split:
        return split_path(c.Split(**settings))
    if kind in (c.Score, c.Labels):
        return settings["run"][0] if kind is c.Score else settings["run"]
    return settings["out"]


def _shaping(kind: type, settings: dict[str, Any]) -> dict[str, Any]:
    """The non-default settings that affect the result."""
    return {name: value for name, value in _changed(kind, settings).items() if name not in OPERATIONAL}


def _changed(kind: type, settings: dict[str, Any]) -> dict[str, Any]:
    """The non-default settings, as in JSON."""
    given = plain(settings)
    return {
        name: given[name] for name, default in defaults(kind).items() if given.get(name, default) != default
    }


def _value_in_name(setting: str, value: Any) -> str:
    """A grid value in the name of a run; numbers are prefixed with their setting."""
    values = value if isinstance(value, tuple) else (value,)
    text = "+".join(f"{each:g}" if isinstance(each, float) else str(each) for each in values)
    return text if all(isinstance(each, str) for each in values) else f"{setting}{text}"

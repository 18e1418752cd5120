"""Reading runs: run.json, log.jsonl, and what must hold before they are used."""

import fcntl
import json
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import Any

from hardness import files
from hardness.errors import UserError
from hardness.registry import STAGES, source_of

_ALWAYS = {"stage", "config", "status", "times", "versions", "git_commit"}
"""What every run.json contains."""
OWN = "own"
"""The record mode of your own training loop: whether the network was in training mode is not known."""
_POOLED_ALIKE = {
    "fingerprint": "fingerprint of the data set",
    "record_mode": "record mode",
    "labels_fingerprint": "fingerprint of the given labels",
}


def read_info(run: Path, required: Set[str] = frozenset()) -> dict[str, Any]:
    """run.json of a run folder, whatever its status; it must have the ``required`` keys too."""
    if not (run / "run.json").is_file():
        raise not_a_run(run, "run.json")
    return files.read_json(run / "run.json", _ALWAYS | required, "Restore the file, or run the stage again.")


def not_a_run(run: Path, lacks: str) -> UserError:
    reason = f"it has no {lacks}" if run.is_dir() else "there is no such folder"
    hint = "Check the path, or track a run first."
    return UserError("not-a-run", "{run} is not a run folder: {reason}.", hint, run=str(run), reason=reason)


def check_stage(
    run: Path, info: dict[str, Any], stages: Iterable[str], hint: str = "Name another run."
) -> None:
    if info["stage"] not in stages:
        sentence = "{run} is a run of {found}, not of {stage}."
        values = {"found": info["stage"], "stage": " or ".join(stages)}
        raise UserError("other-stage", sentence, hint, run=str(run), **values)


def finished_info(run: Path, stage: str | None = None) -> dict[str, Any]:
    """run.json of a finished run; raises ``UserError`` for one of another stage or that is not finished."""
    info = read_info(run)
    if stage is not None:
        check_stage(run, info, [stage])
    if info["status"] != "finished":
        sentence, hint = "{run} is not finished (status: {status}).", "Finish it with --resume."
        raise UserError("run-not-finished", sentence, hint, run=str(run), status=info["status"])
    return read_info(run, {*STAGES[info["stage"]].in_run_json})


def is_in_use(run: Path) -> bool:
    """Whether a process is writing to a run folder, perhaps on another machine."""
    try:
        with (run / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def read_log(run: Path) -> list[dict[str, Any]]:
    """The lines of log.jsonl; an incomplete last line is skipped: its process was killed."""
    path = run / "log.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    try:
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    except ValueError as error:
        sentence, hint = "{path} has a line that is not JSON ({reason}).", "Fix the line, or remove it."
        raise UserError("invalid-log", sentence, hint, path=str(path), reason=str(error)) from error


def check_distinct(runs: Sequence[Path]) -> None:
    if len({run.resolve() for run in runs}) < len(runs):
        names = " ".join(map(str, runs))
        raise UserError("repeated-run", "A run is named twice: {runs}.", "Name each run once.", runs=names)


def check_alike(runs: Sequence[Path], infos: Sequence[dict]) -> None:
    """Several runs must be different ones with the same data set, record mode and given labels."""
    check_distinct(runs)
    for name, what in _POOLED_ALIKE.items():
        check_same(what, runs, [info.get(name) for info in infos])


def check_same(what: str, runs: Sequence[Path], values: Sequence[Any]) -> None:
    """Runs can be pooled only if they have the same value of ``what``."""
    for run, found in zip(runs, values, strict=True):
        if found != values[0]:
            sentence = "The {what} is {found} in {run} and {expected} in {first}."
            hint = "Pool only runs with the same {what}."
            others = {"found": found, "first": str(runs[0]), "expected": values[0]}
            raise UserError("runs-differ", sentence, hint, what=what, run=str(run), **others)


def epoch_of(score: str) -> str:
    """What must be the same to pool a score of the network."""
    return f"epoch of the weights for {score}"


def check_scored(run: Path, name: str, fingerprint: str | None) -> int | None:
    """scores.parquet must have the column -> the epoch of the weights behind it; None: from records."""
    path = run / "scores.parquet"
    if name not in (columns := files.column_names(path, fingerprint)):
        known = [each for each in columns if each not in ("example_id", "num_records")]
        hint = "Choose one of {known}, or run `hardness score --run {run} --with {score}` first."
        values = {"path": str(path), "score": name, "run": str(run), "known": ", ".join(known)}
        raise UserError("not-scored", "{path} has no column {score}.", hint, **values)
    return files.table_settings(path, fingerprint).get("asked", {}).get(name)


def split_settings(path: Path) -> dict[str, Any]:
    """How a split's file was made. Raises ``UserError`` for any other file."""
    settings = files.table_settings(path)
    if "tracking_seeds" not in settings:
        hint = "Pass a file that `hardness split` wrote: RUN/splits/NAME.parquet."
        raise UserError("not-a-split", "{path} is not a split.", hint, path=str(path))
    return settings


def has_logits(info: dict[str, Any]) -> bool:
    """Whether predictions and margins were recorded, not losses alone (``Recorder.update_losses``)."""
    return "logits" in info.get("recorded", ["logits"])


def data_of(info: dict[str, Any]) -> str:
    """The data set of a tracked run, as --data names it. Raises ``UserError`` for your own training loop."""
    if not info["config"]["data"]:
        sentence = "The run was recorded by your own training loop: its data set is unknown."
        raise UserError("data-set-unknown", sentence, "Track the data set with hardness.")
    return info["config"]["data"]


def image_folder(info: dict[str, Any], flag: str, hint: str) -> Path:
    """The folder of a tracked run's images. Raises ``UserError`` if it was run on other data."""
    source = source_of(data_of(info))
    if not source.is_image_folder:
        sentence = "{flag} needs a run on an image folder (this one: {data})."
        raise UserError("needs-image-folder", sentence, hint, flag=flag, data=info["config"]["data"])
    return Path(source.place)

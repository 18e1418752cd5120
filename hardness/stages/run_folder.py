"""A run folder that explains itself: run.json, log.jsonl, and what the stage adds."""

import dataclasses
import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hardness import files
from hardness.console import say
from hardness.errors import UserError
from hardness.ranks import ALONE, Ranks
from hardness.registry import source_of
from hardness.stages.run_settings import OPERATIONAL, defaults, plain, resume_command

RUNS = Path("runs")
_REPORTED_VERSIONS = ("hardness-toolkit", "torch", "torchvision", "numpy", "pandas", "pyarrow")


# What run.json contains: for every run, and for a finished one by its stage.
_ALWAYS = {"stage", "config", "status", "times", "versions", "git_commit"}
_OF_STAGE = {
    "track": {"seed", "fingerprint", "record_mode", "data", "device"},
    "retrain": {"tracking_seed", "fingerprint", "record_mode", "data", "device", "split", "tracked"},
    "memorize": {"fingerprint", "data", "device"},
}
_OF_PIXELS = ("image_shape", "transform", "num_validation")
"""Parts of the data's description that must not change when a run is resumed."""
_POOLED_ALIKE = {
    "fingerprint": "fingerprint of the data set",
    "record_mode": "record mode",
    "labels_fingerprint": "fingerprint of the given labels",
}


class RunFolder:
    """The folder of one run, used as a context while the stage works.

    ``is_finished`` means that there is nothing left to do. Raises ``UserError`` if the folder contains
    something else: other files, a run with other settings, or an interrupted one without ``resume``.
    All ranks get the same answer; rank 0 writes.
    """

    def __init__(self, stage: str, config: Any, ranks: Ranks = ALONE):
        self.stage, self.ranks = stage, ranks
        self.settings = plain(dataclasses.asdict(config))
        self.defaults = defaults(type(config))
        self.path, self.info = self.ranks.on_first(lambda: self._open(config))
        self._lock = None
        if self.is_finished:
            say(f"{self.path} is already finished: nothing to do")

    def _open(self, config: Any) -> tuple[Path, dict[str, Any]]:
        """The folder, and the run.json of the run that it contains."""
        path = config.out or _next_path(self.stage, config.resume, self._shapes_run(), self.defaults)
        if not (path / "run.json").exists():
            # A process that was killed may have left half of a first run.json.
            ours = {".lock", ".run.json.writing"}
            if path.exists() and (not path.is_dir() or {each.name for each in path.iterdir()} - ours):
                raise occupied("--out", path)
            return path, {}
        info = read_info(path)
        self._refuse_other(path, info)
        if info["status"] != "finished" and not config.resume:
            sentence = "{path} already has a run (status: {status}, started {started})."
            hint = "Add --resume to continue it, or choose another --out."
            values = {"status": info["status"], "started": info["times"]["started"]}
            raise UserError("unfinished-run", sentence, hint, path=str(path), **values)
        return path, info

    @property
    def is_finished(self) -> bool:
        return self.info.get("status") == "finished"

    def _shapes_run(self) -> dict[str, Any]:
        return {key: value for key, value in self.settings.items() if key not in OPERATIONAL}

    def _refuse_other(self, path: Path, info: dict[str, Any]) -> None:
        check_stage(path, info, [self.stage], "Choose another --out.")
        for key, value in self._shapes_run().items():
            # A run of an older version used the default of a setting that it does not name.
            found = info["config"].get(key, self.defaults.get(key))
            if found != value:
                sentence = "{path} has a run with --{setting} {found}, not {value}."
                values = {"setting": key.replace("_", "-"), "found": found, "value": value}
                hint = "Pass the same settings, or choose another --out."
                raise UserError("other-settings", sentence, hint, path=str(path), **values)
        if (found := info.get("num_ranks", 1)) != self.ranks.size:
            sentence = "{path} was started with {found} processes, not {num_ranks}."
            hint = "Start {found} processes, or choose another --out."
            values = {"path": str(path), "found": found, "num_ranks": self.ranks.size}
            raise UserError("num-ranks-differ", sentence, hint, **values)

    def __enter__(self) -> "RunFolder":
        self.ranks.on_first(self._take)
        self.update(
            num_ranks=self.ranks.size,
            num_local_ranks=self.ranks.local_size,
            format_version=files.FORMAT_VERSION,
            stage=self.stage,
            config=self.settings,
            versions=_versions(),
            git_commit=_git_commit(),
            status="running",
            times={"started": self.info.get("times", {}).get("started", _now()), "ended": None},
        )
        return self

    def _take(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A process that ends removes the file: the locked one must still be the one on disk.
            is_ours = (self.path / ".lock").exists() and os.path.samestat(
                os.fstat(self._lock.fileno()), (self.path / ".lock").stat()
            )
        except BlockingIOError:
            is_ours = False
        if not is_ours:
            self._lock.close()
            sentence, hint = "Another process is writing to {path}.", "Wait until it ends, or stop it."
            raise UserError("run-in-use", sentence, hint, path=str(self.path))
        path = self.path / "run.json"
        if (read_info(self.path) if path.exists() else {}) != self.info:
            self._lock.close()
            sentence = "Another process changed {path} while this one started."
            raise UserError("run-changed", sentence, "Run the command again.", path=str(path))

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if not self.ranks.is_first:
            return
        status = "finished" if kind is None else "interrupted" if kind is KeyboardInterrupt else "failed"
        try:
            self.update(status=status, times={**self.info["times"], "ended": _now()})
        except OSError:
            if error is None:
                raise
            # For example a full disk, which the error that is being raised is about.
        finally:
            (self.path / ".lock").unlink(missing_ok=True)
            self._lock.close()
        if status == "failed" and [path.name for path in self.path.iterdir()] == ["run.json"]:
            # Nothing was done yet: a wrong setting leaves no run behind.
            (self.path / "run.json").unlink()
            self.path.rmdir()
        if status == "interrupted":
            say(f"Interrupted. Resume with: {resume_command(self.path, self.info)}")

    def update(self, **info: Any) -> None:
        """Add to run.json. Raises ``UserError`` if a resumed run has other data or another precision."""
        for name, hint in (
            ("fingerprint", "Restore the data"),
            ("labels_fingerprint", "Restore the data"),
            ("precision", "Resume it on the same kind of device"),
        ):
            self._check_unchanged(name, self.info, info, hint)
        for name in _OF_PIXELS:
            hint = "Restore the data and its flags"
            self._check_unchanged(name, self.info.get("data", {}), info.get("data", {}), hint)
        self.info.update(info)
        if self.ranks.is_first:
            files.write_json(self.path / "run.json", self.info)

    def _check_unchanged(self, name: str, old: dict[str, Any], new: dict[str, Any], hint: str) -> None:
        if old.get(name) is not None and new.get(name, old[name]) != old[name]:
            sentence = "{path} was started with {what} {found}, not {value}."
            values = {"what": name.replace("_", " "), "found": old[name], "value": new[name]}
            hint += ", or choose another --out."
            raise UserError("resumed-differently", sentence, hint, path=str(self.path), **values)

    def log(self, **line: Any) -> None:
        """Add a line to log.jsonl, with the time (UTC)."""
        if not self.ranks.is_first:
            return
        line["time"] = _now("milliseconds")
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def keep_log(self, keep: Any) -> None:
        """Drop the lines of log.jsonl for which ``keep(line)`` is false: their epochs are trained again."""
        if not self.ranks.is_first:
            return
        lines = [line for line in read_log(self.path) if keep(line)]
        files.write_text(self.path / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def occupied(flag: str, path: Path) -> UserError:
    """The error for a place to write to that contains something that is not ours."""
    sentence = "{path} already contains something else."
    return UserError("path-occupied", sentence, "Choose another {flag}.", path=str(path), flag=flag)


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
    return read_info(run, _OF_STAGE.get(info["stage"], set()))


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


def newest_run(stage: str) -> Path:
    """The finished run of a stage under runs/ that was started last."""
    runs = {path: info for path, info in finished_runs().items() if info["stage"] == stage}
    if not runs:
        raise no_runs(f"finished run of {stage}", stage)
    return started_last(runs)


def no_runs(what: str, stage: str) -> UserError:
    sentence, hint = "There is no {what} under {folder}/.", "Run `hardness {stage}` first."
    return UserError("no-runs", sentence, hint, what=what, folder=str(RUNS), stage=stage)


def started_last(runs: dict[Path, dict[str, Any]]) -> Path:
    return max(runs, key=lambda path: (runs[path]["times"]["started"], path.name))


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
    if name not in files.column_names(path, fingerprint):
        hint = "Run `hardness score --run {run} --with {score}` first."
        values = {"path": str(path), "score": name, "run": str(run)}
        raise UserError("not-scored", "{path} has no column {score}.", hint, **values)
    return files.table_settings(path, fingerprint).get("asked", {}).get(name)


def newest_split(under: Path) -> Path:
    """The newest split of the runs in a folder, or of the run that the folder is."""
    splits = sorted(under.rglob("splits/*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    if not splits:
        sentence, hint = "There is no split under {folder}/.", "Run `hardness split` first, or pass --split."
        raise UserError("no-split", sentence, hint, folder=str(under))
    return splits[-1]


def split_settings(path: Path) -> dict[str, Any]:
    """How a split's file was made. Raises ``UserError`` for any other file."""
    settings = files.table_settings(path)
    if "tracking_seeds" not in settings:
        hint = "Pass a file that `hardness split` wrote: RUN/splits/NAME.parquet."
        raise UserError("not-a-split", "{path} is not a split.", hint, path=str(path))
    return settings


def image_folder(info: dict[str, Any], flag: str, hint: str) -> Path:
    """The folder of a tracked run's images. Raises ``UserError`` if it was run on other data."""
    source = source_of(info["config"]["data"])
    if not source.is_image_folder:
        sentence = "{flag} needs a run on an image folder (this one: {data})."
        raise UserError("needs-image-folder", sentence, hint, flag=flag, data=info["config"]["data"])
    return Path(source.place)


def all_runs() -> dict[Path, dict[str, Any]]:
    """Every run folder under runs/, at any depth, with its run.json, whatever its status.

    Folders that are not runs of this version are skipped.
    """
    infos = {path.parent: _info_or_none(path.parent) for path in sorted(RUNS.rglob("run.json"))}
    return {path: info for path, info in infos.items() if info}


def finished_runs() -> dict[Path, dict[str, Any]]:
    return {path: info for path, info in all_runs().items() if info["status"] == "finished"}


def _info_or_none(run: Path) -> dict[str, Any] | None:
    try:
        return read_info(run)
    except UserError:
        return None


def _next_path(stage: str, resume: bool, shape: dict[str, Any], by_default: dict[str, Any]) -> Path:
    """runs/track-3 after runs/track-2; with ``resume``, the newest unfinished one of this configuration."""
    numbers = {}
    for path in RUNS.glob(f"{stage}-*"):
        if path.name.removeprefix(f"{stage}-").isdigit():
            numbers[int(path.name.removeprefix(f"{stage}-"))] = path
    if resume:
        for _, path in sorted(numbers.items(), reverse=True):
            info = _info_or_none(path)
            same = info and shape.items() <= {**by_default, **info["config"]}.items()
            if same and info["status"] != "finished":
                return path
    return RUNS / f"{stage}-{max(numbers, default=0) + 1}"


def _now(to: str = "seconds") -> str:
    return datetime.now(UTC).isoformat(timespec=to)


def _versions() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in _REPORTED_VERSIONS}
    return {"python": platform.python_version(), **versions}


def _git_commit() -> str | None:
    """The commit of this source tree, marked if files have changed; None outside a checkout of hardness."""
    root = Path(__file__).parents[2]
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(describe, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()

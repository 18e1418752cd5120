"""A run folder that explains itself: run.json, log.jsonl, and what the stage adds."""

import dataclasses
import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Sequence, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hardness import files
from hardness.console import say
from hardness.errors import UserError
from hardness.ranks import ALONE, Ranks
from hardness.stages.run_settings import OPERATIONAL, defaults, plain, resume_command

RUNS = Path("runs")
_REPORTED_VERSIONS = ("hardness-toolkit", "torch", "torchvision", "numpy", "pandas", "pyarrow")


# What run.json holds: of every run, and of a finished one by its stage.
_ALWAYS = {"stage", "config", "status", "times", "versions", "git_commit"}
_OF_STAGE = {
    "track": {"seed", "fingerprint", "record_mode", "data", "device"},
    "retrain": {"tracking_seed", "fingerprint", "record_mode", "data", "device", "split", "tracked"},
    "memorize": {"fingerprint", "data", "device"},
}


_OF_PIXELS = {"image_shape", "transform", "num_validation"}
"""What of the description of its data a run does not go on without."""


class RunFolder:
    """The folder of one run, used as a context while the stage works.

    ``is_finished`` says that there is nothing left to do. Raises ``UserError`` where the folder holds
    something else: other files, a run of another configuration, or an interrupted one without ``resume``.
    Of many ranks all know it, and rank 0 writes.
    """

    def __init__(self, stage: str, config: Any, ranks: Ranks = ALONE):
        self.stage, self.ranks = stage, ranks
        self.settings = plain(dataclasses.asdict(config))
        self.defaults = defaults(type(config))
        self.path, self.info = self.ranks.on_first(lambda: self._open(config))
        self._lock = None
        if self.is_finished:
            say(f"{self.path} is finished already, with this configuration")

    def _open(self, config: Any) -> tuple[Path, dict[str, Any]]:
        """The folder, and the run.json of the run that it holds."""
        path = config.out or _next_path(self.stage, config.resume, self._shapes_run(), self.defaults)
        if not (path / "run.json").exists():
            # A kill may have left half a run.json, which nobody has ever seen.
            others = {".lock", ".run.json.writing"}
            if path.exists() and (not path.is_dir() or {each.name for each in path.iterdir()} - others):
                raise UserError(
                    f"a new or empty folder for --out, or a run of {self.stage}",
                    f"{path} with something else in it",
                    "choose another --out",
                )
            return path, {}
        info = read_info(path)
        self._refuse_other(path, info)
        if info["status"] != "finished" and not config.resume:
            done = f"{path}, {info['status']} since {info['times']['started']}"
            raise UserError("a new folder for --out", done, "add --resume to go on, or choose another --out")
        return path, info

    @property
    def is_finished(self) -> bool:
        return self.info.get("status") == "finished"

    def _shapes_run(self) -> dict[str, Any]:
        return {key: value for key, value in self.settings.items() if key not in OPERATIONAL}

    def _refuse_other(self, path: Path, info: dict[str, Any]) -> None:
        if info["stage"] != self.stage:
            found = f"a run of {info['stage']} in {path}"
            raise UserError(f"a run of {self.stage}", found, "choose another --out")
        for key, value in self._shapes_run().items():
            # What a run of an older version did not say, it did as the defaults have it.
            found = info["config"].get(key, self.defaults.get(key))
            if found != value:
                do = f"give it --{key.replace('_', '-')} {found}, or choose another --out"
                raise UserError(f"{key} {value} in {path}", f"a run with {key} {found}", do)
        if (found := info.get("num_ranks", 1)) != self.ranks.size:
            raise UserError(
                "other-num-processes",
                "{run} was started with {before} processes, not {now}.",
                "Start {before} processes, or choose another --out.",
                run=str(path),
                before=found,
                now=self.ranks.size,
            )

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
            # The process before us removes the file when it ends: ours must be the one that others see.
            is_ours = (self.path / ".lock").exists() and os.path.samestat(
                os.fstat(self._lock.fileno()), (self.path / ".lock").stat()
            )
        except BlockingIOError:
            is_ours = False
        if not is_ours:
            self._lock.close()
            do = "wait for it, or stop it"
            raise UserError(f"{self.path} to ourselves", "another process at work there", do)
        path = self.path / "run.json"
        if (read_info(self.path) if path.exists() else {}) != self.info:
            self._lock.close()
            raise UserError(f"{path} as it was a moment ago", "another process's", "give the command again")

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if not self.ranks.is_first:
            return
        status = "finished" if kind is None else "interrupted" if kind is KeyboardInterrupt else "failed"
        try:
            self.update(status=status, times={**self.info["times"], "ended": _now()})
        except OSError:
            if error is None:
                raise
            # A full disk, say, which is what the error on its way out is about.
        finally:
            (self.path / ".lock").unlink(missing_ok=True)
            self._lock.close()
        if status == "failed" and [path.name for path in self.path.iterdir()] == ["run.json"]:
            # Nothing was done yet: a mistake on the way in leaves no run behind.
            (self.path / "run.json").unlink()
            self.path.rmdir()
        if status == "interrupted":
            say(f"interrupted; go on with: {resume_command(self.path, self.info)}")

    def update(self, **info: Any) -> None:
        """Add to run.json. Raises ``UserError`` where the run was begun otherwise."""
        for name, what, do in (
            ("fingerprint", "data set", "restore the data"),
            ("labels_fingerprint", "given labels", "restore the data"),
            ("precision", "precision", "resume it on the same kind of device"),
        ):
            begun_with = self.info.get(name)
            if begun_with is not None and info.get(name, begun_with) != begun_with:
                raise UserError(
                    f"{what} {begun_with}, with which {self.path} was begun",
                    f"{what} {info[name]}",
                    f"{do}, or choose another --out",
                )
        begun_with, data = self.info.get("data", {}), info.get("data", {})
        for name in _OF_PIXELS & begun_with.keys() & data.keys():
            if begun_with[name] != data[name]:
                raise UserError(
                    f"{name} {begun_with[name]!r} of the data with which {self.path} was begun",
                    repr(data[name]),
                    "restore the data and its flags, or choose another --out",
                )
        self.info.update(info)
        if self.ranks.is_first:
            files.write_json(self.path / "run.json", self.info)

    def log(self, **line: Any) -> None:
        """Add a line to log.jsonl, with the time (UTC)."""
        if not self.ranks.is_first:
            return
        line["time"] = _now("milliseconds")
        with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def keep_log(self, keep: Any) -> None:
        """Drop the lines of log.jsonl for which ``keep(line)`` is false: what will be made again."""
        if not self.ranks.is_first:
            return
        lines = [line for line in read_log(self.path) if keep(line)]
        files.write_text(self.path / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def read_info(run: Path, required: Set[str] = frozenset()) -> dict[str, Any]:
    """run.json of a run folder, whatever its status, with those names beside what each has."""
    path = run / "run.json"
    if not path.is_file():
        found = f"no run.json in {run}" if run.is_dir() else f"no folder {run}"
        raise UserError("a run folder", found, "check the path, or track a run first")
    return files.read_json(path, _ALWAYS | required, "restore the file, or make the run anew")


def finished_info(run: Path, stage: str | None = None) -> dict[str, Any]:
    """run.json of a finished run; raises ``UserError`` for another stage's, or one that isn't finished."""
    info = read_info(run)
    if stage is not None and info["stage"] != stage:
        raise UserError(f"a run of {stage}", f"{run}, a run of {info['stage']}", "name another run")
    if info["status"] != "finished":
        raise UserError(
            f"a finished run in {run}", f"one that is {info['status']}", "finish it with --resume"
        )
    return read_info(run, _OF_STAGE.get(info["stage"], set()))


def is_in_use(run: Path) -> bool:
    """Is a process at work in a run folder, perhaps on another machine?"""
    try:
        with (run / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def read_log(run: Path) -> list[dict[str, Any]]:
    """The lines of log.jsonl; a last one that a kill cut short is left out."""
    path = run / "log.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    try:
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    except ValueError as error:
        raise UserError(f"JSON on every line of {path}", str(error), "mend the line, or remove it") from error


def newest_run(stage: str) -> Path:
    """The finished run of a stage under runs/ that was started last."""
    runs = {path: info for path, info in finished_runs().items() if info["stage"] == stage}
    if not runs:
        raise UserError(f"a finished run of {stage} under {RUNS}/", "none", f"run `hardness {stage}` first")
    return started_last(runs)


def started_last(runs: dict[Path, dict[str, Any]]) -> Path:
    return max(runs, key=lambda path: (runs[path]["times"]["started"], path.name))


def check_alike(runs: Sequence[Path], infos: Sequence[dict]) -> None:
    """Several runs must be different ones, alike in data set, record mode and given labels."""
    if len({run.resolve() for run in runs}) < len(runs):
        raise UserError("each run once", " ".join(map(str, runs)), "drop the repeats")
    same = {"fingerprint": "data set", "record_mode": "record mode", "labels_fingerprint": "given labels"}
    for name, what in same.items():
        for run, info in zip(runs, infos, strict=True):
            if info.get(name) != infos[0].get(name):
                raise UserError(
                    f"runs of the same {what}, {infos[0].get(name)}",
                    f"{run} of {what} {info.get(name)}",
                    f"pool runs of the same {what} only",
                )


def check_scored(run: Path, name: str, fingerprint: str | None) -> int | None:
    """Has the run's scores.parquet that column? -> of which epoch's weights it is; None: of the records."""
    path = run / "scores.parquet"
    if name not in files.column_names(path, fingerprint):
        do = f"run `hardness score --run {run} --with {name}` first"
        raise UserError(f"a column {name} in {path}", "none", do)
    return files.table_settings(path, fingerprint).get("asked", {}).get(name)


def newest_split(under: Path) -> Path:
    """The newest split of the runs in a folder, or of the run that it is."""
    splits = sorted(under.rglob("splits/*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    if not splits:
        raise UserError(f"a split under {under}/", "none", "run `hardness split` first, or pass --split")
    return splits[-1]


def split_settings(path: Path) -> dict[str, Any]:
    """How a split's file was made. Raises ``UserError`` for any other file."""
    settings = files.table_settings(path)
    if "tracking_seeds" not in settings:
        raise UserError("a split's file, RUN/splits/NAME.parquet", str(path), "name one that split wrote")
    return settings


def all_runs() -> dict[Path, dict[str, Any]]:
    """Every run folder under runs/, also in folders of folders, with its run.json, whatever its status.

    What is no run of this version is passed over.
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
    """The commit of this source tree, marked where it has been changed; None outside a checkout of ours."""
    root = Path(__file__).parents[2]
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(describe, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()

"""The lifecycle of a run folder, which explains itself: run.json, log.jsonl, and what the stage adds."""

import dataclasses
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from hardness import files
from hardness.console import say
from hardness.errors import UserError
from hardness.ranks import ALONE, Ranks
from hardness.runs.discovery import next_path
from hardness.runs.provenance import git_commit, now, versions
from hardness.runs.reading import check_stage, read_info, read_log
from hardness.runs.settings import OPERATIONAL, defaults, plain, resume_command

_OF_INPUTS = ("image_shape", "transform", "num_validation")
"""Parts of the data's description that must not change when a run is resumed."""


class RunFolder:
    """The folder of one run, used as a context while the stage works.

    ``is_finished`` means that there is nothing left to do. Raises ``UserError`` if the folder contains
    something else: other files, a run with other settings, or an interrupted one without ``resume``.
    All ranks get the same answer; rank 0 writes.
    """

    def __init__(self, stage: str, config: Any, ranks: Ranks = ALONE):
        self.stage, self.ranks = stage, ranks
        self.settings = plain(dataclasses.asdict(config))
        self.defaults = defaults(stage)
        self.path, self.info = self.ranks.on_first(lambda: self._open(config))
        self._lock = None
        if self.is_finished:
            say(f"{self.path} is already finished: nothing to do")

    def _open(self, config: Any) -> tuple[Path, dict[str, Any]]:
        """The folder, and the run.json of the run that it contains."""
        path = config.out or next_path(self.stage, config.resume, self._shapes_run(), self.defaults)
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
            versions=versions(),
            git_commit=git_commit(),
            status="running",
            times={"started": self.info.get("times", {}).get("started", now()), "ended": None},
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
            self.update(status=status, times={**self.info["times"], "ended": now()})
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
        for name in ("fingerprint", "labels_fingerprint"):
            self._check_unchanged(name, self.info, info, "Restore the data")
        self._check_unchanged("precision", self.info, info, "Resume it on the same kind of device")
        old, new = (each.get("data", {}) for each in (self.info, info))
        for name in _OF_INPUTS:
            self._check_unchanged(name, old, new, "Restore the data and its flags")
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
        line["time"] = now("milliseconds")
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

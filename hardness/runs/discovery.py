"""Which runs there are under runs/."""

from pathlib import Path
from typing import Any

from hardness.errors import UserError
from hardness.runs.reading import read_info

RUNS = Path("runs")


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


def newest_split(under: Path) -> Path:
    """The newest split of the runs in a folder, or of the run that the folder is."""
    splits = sorted(under.rglob("splits/*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    if not splits:
        sentence, hint = "There is no split under {folder}/.", "Run `hardness split` first, or pass --split."
        raise UserError("no-split", sentence, hint, folder=str(under))
    return splits[-1]


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


def next_path(stage: str, resume: bool, shape: dict[str, Any], by_default: dict[str, Any]) -> Path:
    """runs/track-3 after runs/track-2; with ``resume``, the newest unfinished one of this configuration."""
    found = ((path.name.removeprefix(f"{stage}-"), path) for path in RUNS.glob(f"{stage}-*"))
    numbers = {int(number): path for number, path in found if number.isdigit()}
    if resume:
        for _, path in sorted(numbers.items(), reverse=True):
            info = _info_or_none(path)
            same = info and shape.items() <= {**by_default, **info["config"]}.items()
            if same and info["status"] != "finished":
                return path
    return RUNS / f"{stage}-{max(numbers, default=0) + 1}"

"""``hardness export``: the examples of a tracked run with their scores, for other tools."""

import importlib
from pathlib import Path
from types import ModuleType

from hardness.console import say
from hardness.dynamics.own_runs import completed_info
from hardness.runs.discovery import newest_run
from hardness.runs.folder import occupied
from hardness.settings.export import Export


def export(config: Export) -> Path:
    """Write a CSV file, or a folder for cleanlab or FiftyOne -> its path.

    The docstrings of ``to_csv``, ``to_cleanlab`` and ``to_fiftyone`` describe the content and how to load
    it. An older export of the same kind is overwritten. Raises ``UserError`` if there is something else, and
    if the run lacks what the other tool needs.
    """
    run = config.run or newest_run("track")
    info = completed_info(run, "track")
    target = importlib.import_module(f"hardness.exporters.to_{config.to}")
    out = config.out or run / target.DEFAULT_NAME
    if out.exists() and not _is_older(out, target):
        raise occupied("--out", out)
    target.write(out, run, info)
    say(f"wrote {out}")
    return out


def _is_older(out: Path, target: ModuleType) -> bool:
    """Whether it is an export of the same kind, or an empty folder for one."""
    name, begins = target.MARK
    if name and out.is_dir() and not any(out.iterdir()):
        return True
    if not (marked := out / name).is_file():
        return False
    with marked.open("rb") as file:
        return file.read(len(begins)) == begins

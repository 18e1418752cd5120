"""``hardness export``: what a tracked run knows of its examples, as other tools take it."""

import importlib
from pathlib import Path
from types import ModuleType

from hardness.config import Export
from hardness.console import say
from hardness.errors import UserError
from hardness.stages.run_folder import finished_info, newest_run


def export(config: Export) -> Path:
    """Write a CSV file, or a folder for cleanlab or FiftyOne -> its path.

    What is in it, and how it is loaded, is in the docstrings of ``to_csv``, ``to_cleanlab`` and
    ``to_fiftyone``. An older export of the same kind is written anew. Raises ``UserError`` where something
    else lies there, and where the run lacks what the other tool needs.
    """
    run = config.run or newest_run("track")
    info = finished_info(run, "track")
    target = importlib.import_module(f"hardness.stages.export.to_{config.to}")
    out = config.out or run / target.DEFAULT_NAME
    if out.exists() and not _is_older(out, target):
        expected = f"a new place for --out, or an older export to {config.to}"
        raise UserError(expected, f"something else at {out}", "choose another --out")
    target.write(out, run, info)
    say(f"wrote {out}")
    return out


def _is_older(out: Path, target: ModuleType) -> bool:
    """Is it an export of the same kind, or an empty folder for one?"""
    name, begins = target.MARK
    if name and out.is_dir() and not any(out.iterdir()):
        return True
    if not (marked := out / name).is_file():
        return False
    with marked.open("rb") as file:
        return file.read(len(begins)) == begins

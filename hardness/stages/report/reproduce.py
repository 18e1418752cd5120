"""What to type to make the runs of a report, and the report, again."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

from hardness.config import Memorize, Report, Retrain, Split, Track
from hardness.stages.report.describe import split_of
from hardness.stages.run_folder import flags

_STAGES = {"track": Track, "retrain": Retrain, "memorize": Memorize}


def commands(config: Report, runs: dict[Path, dict]) -> list[str]:
    """One a run, before each retraining that of its split, the report's at last."""
    made = []
    for stage in _STAGES:
        for path, info in runs.items():
            if info["stage"] != stage:
                continue
            if stage == "retrain":
                made.append(_split(info))
            settings = {**info["config"], "resume": False, "out": str(path)}
            made.append(_command(stage, settings, _STAGES[stage]))
    # Every run by name, also where all that were there were taken.
    report = {**dataclasses.asdict(config), "runs": [str(path) for path in runs]}
    return [*dict.fromkeys(made), _command("report", report, Report)]


def _split(info: dict) -> str:
    """The command of the split that a run of retrain was given."""
    path, settings = Path(info["config"]["split"]), split_of(info)
    # The split's file lies in the first of its runs, beside which the others are.
    tracked = path.parents[1]
    names = settings.get("runs", [tracked.name])
    named = {"run": [str(tracked.with_name(name)) for name in names], "name": path.stem}
    return _command("split", {name: settings[name] for name in settings if name in _KNOWN} | named, Split)


_KNOWN = {field.name for field in dataclasses.fields(Split)}


def _command(stage: str, settings: dict[str, Any], of: type) -> str:
    """Without what is as it would be anyway."""
    defaults = {field.name: field.default for field in dataclasses.fields(of)}
    # JSON has lists for tuples.
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    told = {name: value for name, value in plain.items() if value != defaults.get(name)}
    words = ["hardness", stage, *flags(told)]
    if told.get("images") is False:
        words.append("--no-images")
    return shlex.join(words)

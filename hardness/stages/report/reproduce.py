"""What to type to make the runs of a report, and the report, again."""

import dataclasses
from pathlib import Path
from typing import Any

from hardness.config import Report, Split
from hardness.stages.report.describe import split_of
from hardness.stages.run_folder import CONFIGS, command
from hardness.stages.split import DEFAULTS


def commands(config: Report, runs: dict[Path, dict]) -> list[str]:
    """One a run, before each retraining that of its split, the report's at last."""
    made = []
    for stage, of in CONFIGS.items():
        for path, info in runs.items():
            if info["stage"] == stage:
                made += [_split(info)] if stage == "retrain" else []
                settings = {**info["config"], "resume": False, "out": str(path)}
                made.append(command(stage, _uncommon(settings, of), info))
    # Every run by name, also where all that were there were taken.
    told = _uncommon({**dataclasses.asdict(config), "runs": [str(path) for path in runs]}, Report)
    images = {"no_images": True} if not told.pop("images", True) else {}
    return [*dict.fromkeys(made), command("report", told | images)]


def _split(info: dict) -> str:
    """The command of the split that a run of retrain was given."""
    path, settings = Path(info["config"]["split"]), split_of(info)
    # The split's file lies in the first of its runs, beside which the others are.
    tracked = path.parents[1]
    runs = [str(tracked.with_name(name)) for name in settings.get("runs", [tracked.name])]
    known = {name: settings[name] for name in DEFAULTS}
    return command("split", _uncommon({"run": runs, **known, "name": path.stem}, Split))


def _uncommon(settings: dict[str, Any], of: type) -> dict[str, Any]:
    """Without what is as it would be anyway."""
    defaults = {field.name: field.default for field in dataclasses.fields(of)}
    # JSON has lists for tuples.
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return {name: value for name, value in plain.items() if value != defaults.get(name)}

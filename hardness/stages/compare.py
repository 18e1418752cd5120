"""``hardness compare``: two runs of a stage, in which settings they differ and what came of it."""

import math
from pathlib import Path
from typing import Any

from hardness.config import Compare
from hardness.console import say, table
from hardness.errors import UserError
from hardness.stages.report.sections import agreements, all_sections
from hardness.stages.run_folder import finished_info, read_log
from hardness.stages.run_settings import CONFIGS, OPERATIONAL, defaults
from hardness.statistics import Estimate
from hardness.tables import Location, Name

_LAST_EPOCH = "The last epoch"
_UNEQUAL = {"epoch", "lr", "time", "loader_wait"}
"""Of an epoch's line of log.jsonl: what says nothing of how well it went."""


def compare(config: Compare) -> None:
    """Print how two runs differ: in settings, in the last epoch's figures, in what a report estimates.

    Raises ``UserError`` for runs of two stages.
    """
    runs = {run: finished_info(run) for run in config.runs}
    if len(runs) < 2:
        raise UserError("two runs", f"{config.runs[0]} twice", "name another")
    infos = list(runs.values())
    if infos[0]["stage"] != infos[1]["stage"]:
        found = " and ".join(f"{run}, one of {info['stage']}" for run, info in runs.items())
        raise UserError("two runs of the same stage", found, "name another")
    names = [run.name for run in runs]
    header = ["", *map(Name, names if len(set(names)) == len(names) else map(str, runs))]
    settings = [_settings(info) for info in infos]
    differ = {name: [each.get(name) for each in settings] for name in settings[0] | settings[1]}
    rows = [[name, *map(_value, values)] for name, values in differ.items() if values[0] != values[1]]
    table("Settings that differ", header, rows or [["none", "", ""]])
    figures = [_figures(run, info) for run, info in runs.items()]
    for title in figures[0] | figures[1]:
        one, other = (each.get(title, {}) for each in figures)
        rows = [[Location(name), *_compared(one.get(name), other.get(name))] for name in one | other]
        table(f"\n{title}", [*header, "difference"], rows)
    for section in agreements(runs):
        if len(section.runs) > 1:
            say(f"\n{section.words.sentences[-1]}")


def _settings(info: dict[str, Any]) -> dict[str, Any]:
    config = defaults(CONFIGS[info["stage"]]) | info["config"]
    parts = {"": config, "split ": info.get("split", {}), "tracked ": info.get("tracked", {})}
    settings = {
        f"{part}{name}": value
        for part, settings in parts.items()
        for name, value in settings.items()
        if name not in OPERATIONAL
    }
    others = {name: info.get(name) for name in ("fingerprint", "labels_fingerprint", "device", "git_commit")}
    return settings | others


def _value(value: Any) -> Any:
    """Of a setting: text may be shortened, a number not."""
    if isinstance(value, list):
        value = " ".join(map(str, value))
    return Location(value) if isinstance(value, str) else value


def _figures(run: Path, info: dict[str, Any]) -> dict[str, dict[str, Estimate]]:
    """Question -> what is estimated -> an estimate; of a tracked run the last epoch's line of log too."""
    found: dict[str, dict[str, Estimate]] = {}
    if info["stage"] == "track" and (log := read_log(run)):
        line = {name: value for name, value in log[-1].items() if name not in _UNEQUAL}
        found[_LAST_EPOCH] = {name.replace("_", " "): Estimate.of([value]) for name, value in line.items()}
    for section in all_sections({run: info}):
        if section.estimates:
            found[section.title] = section.estimates
    return found


def _told(estimate: Estimate | None) -> str:
    if estimate is None or not math.isfinite(estimate.mean):
        return "-"
    interval = "" if estimate.low is None else f" [{estimate.low:.3f}, {estimate.high:.3f}]"
    return f"{_short(estimate.mean)}{interval}"


def _compared(one: Estimate | None, other: Estimate | None) -> list[str]:
    told = [_told(one), _told(other)]
    return [*told, "-" if "-" in told else _short(other.mean - one.mean, sign="+")]


def _short(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}" if abs(value) < 100 else f"{value:{sign},.0f}"

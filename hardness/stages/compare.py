"""``hardness compare``: how two runs of a stage differ in settings and results."""

import math
from pathlib import Path
from typing import Any

from hardness.console import say, table
from hardness.dynamics.own_runs import completed_info
from hardness.page.sections import agreements, all_sections
from hardness.runs.reading import check_distinct, check_stage, read_log
from hardness.runs.settings import OPERATIONAL, defaults
from hardness.settings.compare import Compare
from hardness.statistics import Estimate

_UNEQUAL = {"epoch", "lr", "time", "loader_wait"}
"""Entries of log.jsonl that do not measure how well training went."""


def compare(config: Compare) -> None:
    """Print how two runs differ: in settings, in numbers of the last epoch, in the estimates of a report.

    Raises ``UserError`` for runs of two stages.
    """
    check_distinct(config.runs)
    runs = {run: completed_info(run) for run in config.runs}
    infos = list(runs.values())
    check_stage(config.runs[1], infos[1], [infos[0]["stage"]])
    names = [run.name for run in runs]
    header = ["", *(names if len(set(names)) == len(names) else map(str, runs))]
    settings = [_settings(info) for info in infos]
    differ = {name: [each.get(name) for each in settings] for name in settings[0] | settings[1]}
    rows = [[name, *map(_value, values)] for name, values in differ.items() if values[0] != values[1]]
    table("Settings that differ", header, rows or [["none", "", ""]])
    figures = [_figures(run, info) for run, info in runs.items()]
    for title in figures[0] | figures[1]:
        one, other = (each.get(title, {}) for each in figures)
        rows = [[name, *_compared(one.get(name), other.get(name))] for name in one | other]
        table(f"\n{title}", [*header, "difference"], rows)
    for section in agreements(runs):
        if len(section.runs) > 1:
            say(f"\n{section.words.sentences[-1]}")


def _settings(info: dict[str, Any]) -> dict[str, Any]:
    config = defaults(info["stage"]) | info["config"]
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
    return " ".join(map(str, value)) if isinstance(value, list) else value


def _figures(run: Path, info: dict[str, Any]) -> dict[str, dict[str, Estimate]]:
    """Question -> quantity -> its estimate; for a tracked run also the numbers of the last epoch."""
    found: dict[str, dict[str, Estimate]] = {}
    if info["stage"] == "track" and (log := read_log(run)):
        line = {name: value for name, value in log[-1].items() if name not in _UNEQUAL}
        found["The last epoch"] = {
            name.replace("_", " "): Estimate.of([value]) for name, value in line.items()
        }
    for section in all_sections({run: info}):
        if section.estimates:
            found[section.title] = section.estimates
    return found


def _text(estimate: Estimate | None) -> str:
    if estimate is None or not math.isfinite(estimate.mean):
        return "-"
    interval = "" if estimate.low is None else f" [{estimate.low:.3f}, {estimate.high:.3f}]"
    return f"{_short(estimate.mean)}{interval}"


def _compared(one: Estimate | None, other: Estimate | None) -> list[str]:
    cells = [_text(one), _text(other)]
    return [*cells, "-" if "-" in cells else _short(other.mean - one.mean, sign="+")]


def _short(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}" if abs(value) < 100 else f"{value:{sign},.0f}"

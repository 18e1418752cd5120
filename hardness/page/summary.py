"""The report as numbers (summary.json, described in reports/README.md) and in Markdown (summary.md)."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from hardness import files
from hardness.page.describe import describe_data, describe_training
from hardness.page.gallery import Gallery
from hardness.page.reproduce import commands
from hardness.page.section import Section

_REQUIRED = {"format_version", "runs", "sections"}
"""Names that identify a summary.json."""


def may_write(out: Path) -> bool:
    """Does the folder contain nothing with the name of a report's file, or an older report?"""
    if out.is_file():
        return False
    if not any((out / name).exists() for name in ("index.html", "summary.json", "summary.md", "figures")):
        return True
    try:
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(summary, dict) and summary.keys() >= _REQUIRED


def in_numbers(
    config: Any, runs: dict[Path, dict], sections: Sequence[Section], galleries: Sequence[tuple[str, Gallery]]
) -> dict[str, Any]:
    """The object of summary.json."""
    counts = Counter(path.name for path in runs)
    # Two runs may have folders of the same name.
    names = {path: path.name if counts[path.name] == 1 else str(path) for path in runs}
    return {
        "format_version": files.FORMAT_VERSION,
        "title": config.title,
        "interval_level": 0.95,
        "runs": [{"run": names[path], **_run(info)} for path, info in runs.items()],
        "sections": [_section(section, names) for section in sections],
        "galleries": [
            {
                "settings": settings,
                "runs": [names[path] for path in gallery.runs],
                "numbers": gallery.numbers,
                "notes": gallery.notes,
            }
            for settings, gallery in galleries
        ],
        "commands": commands(config, runs),
    }


def _section(section: Section, names: dict[Path, str]) -> dict[str, Any]:
    return {
        "title": section.title,
        "settings": section.settings,
        "runs": [names[path] for path in section.runs],
        "headline": section.words.headline,
        "verdicts": section.words.sentences,
        "cautions": section.words.cautions,
        "estimates": {name: asdict(value) for name, value in section.estimates.items()},
        "numbers": section.words.numbers,
        "figures": [drawing.name for drawing in section.drawings],
    }


def _run(info: dict) -> dict[str, Any]:
    started, ended = info["times"]["started"], info["times"]["ended"]
    seconds = (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
    num_seeds = info["config"].get("seeds", 1)
    return {
        "stage": info["stage"],
        "seed": str(info.get("seed", info.get("tracking_seed", f"0..{num_seeds - 1}"))),
        "data": describe_data(info),
        "training": describe_training(info),
        "config": info["config"],
        "data_set": {
            "num_train": info["data"]["num_train"],
            "num_validation": info["data"].get("num_validation"),
            "num_classes": len(info["data"]["class_names"]),
            "image_shape": info["data"].get("image_shape"),
        },
        "split": info.get("split"),
        "noise_rate": info.get("noise_rate"),
        "noise_rates": info.get("noise_rates"),
        "fingerprint": info["fingerprint"],
        "device": info["device"],
        "started": started,
        "ended": ended,
        "seconds": seconds,
        "commit": info["git_commit"] or "",
        "versions": ", ".join(f"{name} {version}" for name, version in info["versions"].items()),
    }


def in_markdown(summary: dict[str, Any]) -> str:
    """The object of summary.json -> a short version for a README."""
    lines = [f"# {_plain(summary['title'])}", ""]
    title = None
    for section in summary["sections"]:
        if title != (title := section["title"]):
            lines += [f"## {title}", ""]
        lines += [f"*{_plain(section['settings'])}*", ""]
        lines += [f"**{_plain(section['headline'])}**", ""] if section["headline"] else []
        lines += [f"- {_plain(sentence)}" for sentence in section["verdicts"]]
        lines += [f"- Caution: {_plain(caution)}" for caution in section["cautions"]]
        lines += ["", *_table(section["estimates"])] if section["estimates"] else []
        lines += ["", *(f"![{name}](figures/{name}.png)" for name in section["figures"][:1])]
        lines += [""]
    lines += ["## How to reproduce", "", *(f"    {command}" for command in summary["commands"]), ""]
    return "\n".join(lines)


def _table(estimates: dict[str, dict]) -> list[str]:
    lines = ["| quantity | mean | 95 % interval | seeds |", "| --- | ---: | --- | ---: |"]
    for name, value in estimates.items():
        interval = "" if value["low"] is None else f"[{value['low']:.3f}, {value['high']:.3f}]"
        lines.append(f"| {_plain(name)} | {value['mean']:.3f} | {interval} | {value['num_seeds']} |")
    return [*lines, ""]


def _plain(text: str) -> str:
    """Escape what Markdown would interpret."""
    return "".join(f"\\{each}" if each in "\\`*_[]<>|$" else each for each in text)

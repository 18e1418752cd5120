"""``hardness report``: figures, tables, verdicts and one page, from run folders alone."""

import base64
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jinja2

from hardness import files
from hardness.config import Report
from hardness.console import say
from hardness.errors import UserError
from hardness.stages.report.sections import SECTIONS, describe_data, describe_training
from hardness.stages.run_folder import RUNS, finished_info, finished_runs


def report(config: Report) -> Path:
    """Draw the report -> its folder: index.html, summary.json, figures/*.png, *.svg, *.csv."""
    paths = config.runs or tuple(finished_runs())
    if not paths:
        raise UserError(f"finished runs under {RUNS}/", "none", "track a run first, or name --runs")
    runs = {path: finished_info(path) for path in paths}
    out = config.out
    if not _may_write(out):
        found = f"{out} with something else in it"
        raise UserError("a new folder, or one with an older report, for --out", found, "choose another")
    with TemporaryDirectory() as drawn:
        folder = Path(drawn) / "figures"
        sections = [section for part in SECTIONS for section in part(runs, folder)]
        beside = out / ".figures.writing"
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(folder, beside)
        shutil.rmtree(out / "figures", ignore_errors=True)
        beside.rename(out / "figures")
    table = [_run_row(path, info) for path, info in runs.items()]
    files.write_json(
        out / "summary.json",
        {
            "format_version": files.FORMAT_VERSION,
            "title": config.title,
            "runs": table,
            "sections": [
                {
                    "title": section.title,
                    "settings": section.settings,
                    "verdicts": section.sentences,
                    "estimates": {name: asdict(value) for name, value in section.estimates.items()},
                    "figures": [drawing.name for drawing in section.drawings],
                }
                for section in sections
            ],
        },
    )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("page.html").render(
        title=config.title, sections=sections, runs=table, embed=lambda name: _embed(out / "figures" / name)
    )
    files.write_text(out / "index.html", page)
    for section in sections:
        for sentence in section.sentences:
            say(sentence)
    say(f"the report: {out / 'index.html'}")
    return out


def _may_write(out: Path) -> bool:
    """Is nothing of a report's names in the folder, or an older report?"""
    if out.is_file():
        return False
    if not any((out / name).exists() for name in ("index.html", "summary.json", "figures")):
        return True
    try:
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(summary, dict) and {"format_version", "runs", "sections"} <= summary.keys()


def _run_row(path: Path, info: dict) -> dict[str, Any]:
    return {
        "run": path.name,
        "stage": info["stage"],
        "seed": str(info.get("seed", info.get("tracking_seed", f"0..{info['config'].get('seeds', 1) - 1}"))),
        "data": describe_data(info),
        "training": describe_training(info["config"]),
        "fingerprint": info["fingerprint"],
        "device": info["device"],
        "started": info["times"]["started"],
        "ended": info["times"]["ended"],
        "commit": info["git_commit"] or "",
        "versions": ", ".join(f"{name} {version}" for name, version in info["versions"].items()),
    }


def _embed(path: Path) -> str:
    """A figure as a data URI, so that the page is one file."""
    return "data:image/svg+xml;base64," + base64.b64encode(Path(f"{path}.svg").read_bytes()).decode()

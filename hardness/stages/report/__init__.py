"""``hardness report``: figures, tables, verdicts and one page, from run folders alone."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hardness import files
from hardness.config import Report
from hardness.console import progress, say
from hardness.figures import style
from hardness.stages.report.gallery import all_galleries
from hardness.stages.report.page import render
from hardness.stages.report.section import Section
from hardness.stages.report.sections import all_sections
from hardness.stages.report.summary import REQUIRED, in_markdown, in_numbers
from hardness.stages.run_folder import check_distinct, finished_info, finished_runs, no_runs, occupied


def report(config: Report) -> Path:
    """Write the report -> its folder: index.html, summary.json, summary.md, figures/*.png and .csv."""
    paths = config.runs or tuple(finished_runs())
    if not paths:
        raise no_runs("finished run", "track")
    check_distinct(paths)
    runs = {path: finished_info(path) for path in paths}
    if not _may_write(config.out):
        raise occupied("--out", config.out)
    sections = all_sections(runs)
    shown = all_galleries(runs, with_images=config.images)
    numbers = in_numbers(config, runs, sections, shown)
    # First: it marks the folder as a report's, in case of a kill before the rest is written.
    files.write_json(config.out / "summary.json", numbers)
    # The page has the figures as PNG.
    formats = list(dict.fromkeys(("png", *config.formats)))
    _draw(sections, config.out / "figures", formats)
    files.write_text(config.out / "summary.md", in_markdown(numbers))
    page = render(numbers, sections, shown, config.out / "figures", formats)
    files.write_text(config.out / "index.html", page)
    for section in sections:
        if section.words.headline:
            say(f"{section.title} {section.words.headline}")
    say(f"Report: {config.out / 'index.html'}")
    return config.out


def _draw(sections: list[Section], folder: Path, formats: Sequence[str]) -> None:
    """Draw all figures, into a folder that replaces an older one."""
    beside = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(beside, ignore_errors=True)
    with TemporaryDirectory() as temporary:
        drawn = Path(temporary) / folder.name
        drawn.mkdir()
        drawings = [(drawing, section.settings) for section in sections for drawing in section.drawings]
        for drawing, title in progress(drawings, len(drawings), "drawing"):
            style.save(drawing.draw, drawing.table, title, drawn / drawing.name, formats)
        shutil.copytree(drawn, beside)
    older = folder.with_name(f".{folder.name}.older")
    shutil.rmtree(older, ignore_errors=True)
    if folder.exists():
        folder.rename(older)
    beside.rename(folder)
    shutil.rmtree(older, ignore_errors=True)


def _may_write(out: Path) -> bool:
    """Does the folder contain nothing with the name of a report's file, or an older report?"""
    if out.is_file():
        return False
    if not any((out / name).exists() for name in ("index.html", "summary.json", "summary.md", "figures")):
        return True
    try:
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(summary, dict) and summary.keys() >= REQUIRED

"""``hardness report``: figures, tables, verdicts and one page, from run folders alone."""

from pathlib import Path

from hardness import files
from hardness.console import say
from hardness.dynamics.own_runs import completed_info
from hardness.page.gallery import all_galleries
from hardness.page.render import render
from hardness.page.section import draw_all
from hardness.page.sections import all_sections
from hardness.page.summary import in_markdown, in_numbers, may_write
from hardness.runs.discovery import finished_runs, no_runs
from hardness.runs.folder import occupied
from hardness.runs.reading import check_distinct
from hardness.settings.report import Report


def report(config: Report) -> Path:
    """Write the report -> its folder: index.html, summary.json, summary.md, figures/*.png and .csv."""
    paths = config.runs or tuple(finished_runs())
    if not paths:
        raise no_runs("finished run", "track")
    check_distinct(paths)
    runs = {path: completed_info(path) for path in paths}
    if not may_write(config.out):
        raise occupied("--out", config.out)
    sections = all_sections(runs)
    galleries = all_galleries(runs, with_images=config.images)
    numbers = in_numbers(config, runs, sections, galleries)
    # First: it marks the folder as a report's, in case of a kill before the rest is written.
    files.write_json(config.out / "summary.json", numbers)
    # The page has the figures as PNG.
    formats = list(dict.fromkeys(("png", *config.formats)))
    draw_all(sections, config.out / "figures", formats)
    files.write_text(config.out / "summary.md", in_markdown(numbers))
    page = render(numbers, sections, galleries, config.out / "figures", formats)
    files.write_text(config.out / "index.html", page)
    for section in sections:
        if section.words.headline:
            say(f"{section.title} {section.words.headline}")
    say(f"Report: {config.out / 'index.html'}")
    return config.out

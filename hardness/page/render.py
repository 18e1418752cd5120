"""The page: one file that needs no other file, no network and no external script."""

import base64
import io
import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from hardness.figures.style import DPI
from hardness.page.describe import distinct
from hardness.page.gallery import Gallery
from hardness.page.section import Drawing, Section

_CSS_DPI = 96
_COLUMNS = (
    *("run", "stage", "seed", "data", "training", "duration", "device"),
    *("fingerprint", "commit", "started"),
)


def render(
    summary: dict[str, Any],
    sections: Sequence[Section],
    galleries: Sequence[tuple[str, Gallery]],
    figures: Path,
    formats: Sequence[str],
) -> str:
    """The HTML of a report. figures: the folder of the files that were drawn, in these formats."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    runs = [{**run, "duration": _duration(run["seconds"])} for run in summary["runs"]]
    return environment.get_template("page.html").render(
        title=summary["title"],
        questions=_questions(sections),
        picture_of=partial(_picture, figures),
        cautions=_cautions(sections),
        versions=dict.fromkeys(run["versions"] for run in runs),
        galleries=galleries,
        runs=runs,
        columns=_COLUMNS,
        suffixes=[*formats, "csv"],
        commands=summary["commands"],
    )


def _cautions(sections: Sequence[Section]) -> dict[str, list[str]]:
    """Caution -> the settings it applies to."""
    found: dict[str, list[str]] = {}
    for section in sections:
        for caution in section.words.cautions:
            found.setdefault(caution, []).append(section.settings)
    return found


def _questions(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Each section has the settings in which it differs from the others of its question."""
    questions = []
    for title, same in itertools.groupby(sections, lambda section: section.title):
        same = list(same)
        pairs = zip(same, distinct([each.settings for each in same]), strict=True)
        answers = [{"section": section, "differs": differs} for section, differs in pairs]
        questions.append({"title": title, "anchor": f"question-{len(questions) + 1}", "answers": answers})
    return questions


def _picture(figures: Path, drawing: Drawing) -> dict[str, Any]:
    """The PNG as a data URI, and its size in CSS pixels."""
    png = (figures / f"{drawing.name}.png").read_bytes()
    with Image.open(io.BytesIO(png)) as image:
        width, height = (round(size * _CSS_DPI / DPI) for size in image.size)
    uri = "data:image/png;base64," + base64.b64encode(png).decode()
    return {"uri": uri, "width": width, "height": height}


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"

"""The words of a report's page, and the numbers in them."""

import re
from html.parser import HTMLParser

# A number that is no part of a name (el2n_1_10, easy-control-2, rm3, figures/a-1.csv, arXiv:2003.07422).
_NUMBER = re.compile(r"(?<![\w.:/–-])[+-]?\d[\d,]*(?:\.\d+)?(?![\w/]|-[a-z]|\.\w)(?:\s?%)?")
_SKIPPED = {"style", "script", "pre", "code", "svg", "table", "title", "select"}
_VOID = {"meta", "link", "img", "br", "input", "hr", "path", "line", "polyline", "circle", "rect"}


class Words(HTMLParser):
    """Text outside of tables of runs, code, the style sheet, the script and the examples of a gallery."""

    def __init__(self):
        super().__init__()
        self.open: list[bool] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in _VOID:
            classes = (dict(attrs).get("class") or "").split()
            self.open.append(tag in _SKIPPED or bool({"gallery-group", "versions"} & set(classes)))

    def handle_endtag(self, tag):
        if tag not in _VOID:
            self.open.pop()

    def handle_data(self, data):
        if not any(self.open):
            self.text.append(data)


def numbers_in(text: str) -> list[str]:
    return [match[0].strip() for match in _NUMBER.finditer(text.replace("\xa0", " "))]


def leaves(value) -> list[float]:
    """Every number of a JSON value, none of those inside strings."""
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in leaves(each)]
    if isinstance(value, list):
        return [leaf for each in value for leaf in leaves(each)]
    return [] if isinstance(value, bool | str | None) else [float(value)]


def is_told(number: str, known: list[float]) -> bool:
    """Is it one of the known numbers, rounded to as many places?"""
    text = number.replace(",", "").replace("%", "").strip()
    shown = float(text) / (100 if "%" in number else 1)
    places = len(text.partition(".")[2]) + 2 * ("%" in number)
    return any(abs(value - shown) <= 0.5 * 10**-places + 1e-9 for value in known)

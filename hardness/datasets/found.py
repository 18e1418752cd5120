"""What is found beside the images, and which classes labels name."""

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import PurePosixPath

from hardness.datasets.base import Notes
from hardness.errors import UserError

Label = int | str
"""A class index, or the name of a class."""
MOST_CLASSES = 1_000_000
_MOST_NAMED = 5


def note_hidden(names: Iterable[str], notes: Notes) -> None:
    """One line that counts files and folders that no user made as data."""
    if counts := Counter(names):
        notes.say(f"hidden files and folders left out: {_counted(counts)}")


def note_others(names: Iterable[str], notes: Notes) -> None:
    """One warning that counts the files that are not read as images, by extension."""
    if counts := Counter(PurePosixPath(name).suffix.lower() or "no extension" for name in names):
        notes.warn(f"files left out, as they are not read as images: {_counted(counts)}")


def _counted(counts: Counter[str]) -> str:
    told = [f"{name}: {count:,}" for name, count in counts.most_common(_MOST_NAMED)]
    more = ["..."] if len(counts) > len(told) else []
    return f"{counts.total():,} ({', '.join(told + more)})"


def first_of(found: Sequence[object]) -> str:
    """How many they are, and which is the first."""
    return f"{len(found):,} (the first: {found[0]})"


def one_class(names: Iterable[str], notes: Notes) -> dict[str, str]:
    """Name as it is spelled -> name of its class: names that look the same (Unicode's NFC) are one class."""
    found = {name: unicodedata.normalize("NFC", name) for name in sorted(set(names))}
    if twice := [name for name, count in Counter(found.values()).items() if count > 1]:
        told = ", ".join(map(repr, twice[:_MOST_NAMED]))
        notes.say(f"merged classes whose names differ only in their Unicode form: {told}")
    return found


def number_classes(labels: Collection[Label], notes: Notes) -> tuple[list[str], dict[Label, int]]:
    """(names of the classes, label -> class index). Names are in alphabetical order, indices as they are.

    Raises ``UserError`` where some labels are indices and others names.
    """
    kinds = {type(label): label for label in labels}
    if len(kinds) > 1:
        found = " and ".join(repr(label) for label in kinds.values())
        raise UserError("class indices or class names as labels", found, "write all of one kind")
    if int in kinds:
        return [str(number) for number in range(max(labels) + 1)], {label: label for label in labels}
    class_of = one_class(labels, notes)
    names = sorted(set(class_of.values()))
    numbers = {name: number for number, name in enumerate(names)}
    return names, {label: numbers[name] for label, name in class_of.items()}


def parse_label(text: str) -> Label:
    """``7``, ``007`` or ``cat``. Raises ``ValueError`` for what is neither an index nor a name."""
    text = text.strip()
    if text.isascii() and text.removeprefix("+").isdigit():
        if int(text) < MOST_CLASSES:
            return int(text)
    elif text and text.isprintable() and not _is_number(text):
        return text
    raise ValueError(f"{text[:40]!r} is no class index below {MOST_CLASSES:,} and no class name")


def _is_number(text: str) -> bool:
    """``-1``, ``2.0``, ``nan``."""
    try:
        float(text)
    except ValueError:
        return False
    return True

"""What all sources of images share: notes, errors, and class names from labels."""

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from hardness.errors import UserError

EXTENSIONS = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png"),
    *(".ppm", ".tif", ".tiff", ".webp"),
)
"""Files with these extensions are read as images: those of torchvision's ImageFolder, and three more."""
Label = int | str
"""A class index, or the name of a class."""
MOST_CLASSES = 1_000_000
_MOST_NAMED = 5


@dataclass(frozen=True)
class Notes:
    """Messages about a data set, collected so that they are printed once, not every time it is opened."""

    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.lines.append(line)

    def warn(self, warning: str) -> None:
        self.warnings.append(warning)


def no_images(path: object, hint: str) -> UserError:
    return UserError("no-images", "{path} contains no images.", hint, path=str(path))


def duplicate_key(path: object, first: object) -> UserError:
    sentence, hint = "{path} has the same key as {first}.", "Rename or remove one of them."
    return UserError("duplicate-key", sentence, hint, path=str(path), first=str(first))


def two_validation_sets(val_fraction: float, data: str, names: Sequence[str]) -> UserError:
    sentence = "--val-fraction {val_fraction} was given, but {data} has validation images ({names})."
    values = {"val_fraction": val_fraction, "data": data, "names": a_few(names)}
    return UserError("val-images-and-fraction", sentence, "Remove --val-fraction.", **values)


def a_few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more


def mixed_labels(examples: Iterable[str]) -> UserError:
    sentence = "Some labels are class indices, others are class names: {examples}."
    return UserError("mixed-labels", sentence, "Use one kind of label.", examples=", ".join(examples))


def note_hidden(names: Iterable[str], notes: Notes) -> None:
    """One line with the number of hidden files and folders."""
    if counts := Counter(names):
        notes.say(f"skipped hidden files and folders: {_counted(counts)}")


def note_others(names: Iterable[str], notes: Notes) -> None:
    """One warning with the number of files that are not images, by extension."""
    if counts := Counter(PurePosixPath(name).suffix.lower() or "no extension" for name in names):
        notes.warn(f"skipped files that are not images: {_counted(counts)}")


def _counted(counts: Counter[str]) -> str:
    named = [f"{name}: {count:,}" for name, count in counts.most_common(_MOST_NAMED)]
    more = ["..."] if len(counts) > len(named) else []
    return f"{counts.total():,} ({', '.join(named + more)})"


def first_of(found: Sequence[object]) -> str:
    """Their number and the first of them."""
    return f"{len(found):,} (the first: {found[0]})"


def one_class(names: Iterable[str], notes: Notes) -> dict[str, str]:
    """Name as spelled -> class name: names that are equal after Unicode normalization (NFC) are one class."""
    found = {name: unicodedata.normalize("NFC", name) for name in sorted(set(names))}
    if twice := [name for name, count in Counter(found.values()).items() if count > 1]:
        named = ", ".join(map(repr, twice[:_MOST_NAMED]))
        notes.say(f"merged classes whose names differ only in Unicode normalization: {named}")
    return found


def number_classes(labels: Collection[Label], notes: Notes) -> tuple[list[str], dict[Label, int]]:
    """(class names, label -> class index). Names are sorted alphabetically, indices stay as they are.

    Raises ``UserError`` if some labels are indices and others are names.
    """
    kinds = {type(label): label for label in labels}
    if len(kinds) > 1:
        raise mixed_labels(repr(label) for label in kinds.values())
    if int in kinds:
        return [str(number) for number in range(max(labels) + 1)], {label: label for label in labels}
    class_of = one_class(labels, notes)
    names = sorted(set(class_of.values()))
    numbers = {name: number for number, name in enumerate(names)}
    return names, {label: numbers[name] for label, name in class_of.items()}


def parse_label(text: str) -> Label:
    """``7``, ``007`` or ``cat``. Raises ``ValueError`` for anything else."""
    text = text.strip()
    if text.isascii() and text.removeprefix("+").isdigit():
        if int(text) < MOST_CLASSES:
            return int(text)
    elif text and text.isprintable() and not _is_number(text):
        return text
    raise ValueError(f"{text[:40]!r} is neither a class index below {MOST_CLASSES:,} nor a class name")


def _is_number(text: str) -> bool:
    """``-1``, ``2.0``, ``nan``."""
    try:
        float(text)
    except ValueError:
        return False
    return True

"""The labels of WebDataset's samples: files of one folder whose names differ in the extension alone.

The key of ``scan_0.07.png`` is ``scan_0.07``; its label is in ``scan_0.07.cls``, or in ``scan_0.07.json``.
"""

import itertools
import json
import posixpath
from collections.abc import Callable, Sequence
from typing import Protocol

from hardness.datasets.base import Notes
from hardness.datasets.found import Label, first_of, parse_label
from hardness.errors import UserError

_FIELDS = ("label", "cls", "class")


class Member(Protocol):
    """A file in a tar; ``str(member)`` names it to the user."""

    sample: tuple[str, str]
    """Its tar, and its folder and key."""

    def read(self) -> bytes: ...


def sample_of(tar: str, name: str) -> tuple[str, str]:
    return tar, posixpath.splitext(name)[0]


def read_labels(
    images: Sequence[Member], cls_files: Sequence[Member], json_files: Sequence[Member], notes: Notes
) -> dict[Member, Label] | None:
    """The label of each image that has one; None where no file has labels.

    ``json_files``: those beside images. An image without a label whose key extends a labelled one
    (``0001.seg.png`` beside ``0001.cls``) is left out, and counted. Raises ``UserError`` for any other image
    without a label, for a sample of two images or of two different labels, and for a file without a label.
    """
    found: dict[tuple[str, str], tuple[Label, Member]] = {}
    first_of_kind: dict[type, tuple[Label, Member]] = {}
    labelled = {file.sample for file in cls_files}
    read = itertools.chain(
        ((file, _read(file, parse_label)) for file in cls_files),
        ((file, _read_json(file, has_cls=file.sample in labelled)) for file in json_files),
    )
    for file, label in read:
        if label is None:
            continue
        first_of_kind.setdefault(type(label), (label, file))
        other, first = found.setdefault(file.sample, (label, file))
        if (type(other), other) != (type(label), label):
            raise UserError(
                f"one label in {first}", f"{other!r}, and {label!r} in {file}", "remove one of them"
            )
    if not found:
        return None
    if len(first_of_kind) > 1:
        told = " and ".join(f"{label!r} in {file}" for label, file in first_of_kind.values())
        raise UserError("class indices or class names as labels", told, "write all of one kind")
    labels, companions = {}, []
    owners: dict[tuple[str, str], Member] = {}
    for image in images:
        if image.sample in found:
            if (other := owners.setdefault(image.sample, image)) is not image:
                raise UserError(
                    "one image of each key", f"{other} and {image}", "rename or remove one of them"
                )
            labels[image] = found[image.sample][0]
        elif _extends(image.sample, found):
            companions.append(image)
        else:
            raise UserError(f"a label of {image}", "no .cls or .json file with one", "add it")
    if companions:
        notes.say(f"companion images without a label of their own left out: {first_of(companions)}")
    if unused := [file for key, (_, file) in found.items() if key not in owners]:
        notes.warn(f"label files without an image: {first_of(unused)}")
    return labels


def _extends(sample: tuple[str, str], labelled: dict) -> bool:
    tar, path = sample
    while posixpath.splitext(path)[1]:
        path = posixpath.splitext(path)[0]
        if (tar, path) in labelled:
            return True
    return False


def _read(file: Member, parse: Callable[[str], Label | None]) -> Label | None:
    try:
        return parse(file.read().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        do = "write a class index or a class name"
        raise UserError(f"a label in {file}", str(error), do) from error


def _read_json(file: Member, has_cls: bool) -> Label | None:
    """None where it has no label; beside a .cls file it may hold anything."""
    try:
        return _read(file, lambda text: _from_json(json.loads(text)))
    except UserError:
        if has_cls:
            return None
        raise


def _from_json(value: object) -> Label | None:
    """An index or a name, alone or in one of the usual fields; None of a list and the like."""
    if isinstance(value, dict):
        found = {_scalar(value[name]) for name in _FIELDS if value.get(name) is not None}
        if len(found) > 1:
            raise ValueError(f"different labels: {', '.join(map(repr, found))}")
        return next(iter(found), None)
    return None if value is None or isinstance(value, list) else _scalar(value)


def _scalar(value: object) -> Label:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str | int) and not isinstance(value, bool):
        return parse_label(str(value))
    raise ValueError(f"{json.dumps(value)[:40]} is no class index and no class name")

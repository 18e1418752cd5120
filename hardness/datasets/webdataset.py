"""Labels of WebDataset samples: files in one folder whose names differ only in the extension.

The key of ``scan_0.07.png`` is ``scan_0.07``; its label is in ``scan_0.07.cls``, or in ``scan_0.07.json``.
"""

import itertools
import json
import posixpath
from collections.abc import Callable, Sequence
from typing import Protocol

from hardness.datasets.found import Label, Notes, duplicate_key, first_of, mixed_labels, parse_label
from hardness.errors import UserError

_FIELDS = ("label", "cls", "class")


class SampleFile(Protocol):
    """A file in a tar; ``str(member)`` is its name in messages."""

    sample: tuple[str, str]
    """Its tar, and its folder and key."""

    def read(self) -> bytes: ...


def sample_of(tar: str, name: str) -> tuple[str, str]:
    return tar, posixpath.splitext(name)[0]


def read_labels(
    images: Sequence[SampleFile],
    cls_files: Sequence[SampleFile],
    json_files: Sequence[SampleFile],
    notes: Notes,
) -> dict[SampleFile, Label] | None:
    """The label of each image that has one; None if no file has labels.

    ``json_files``: those next to images. An image without a label whose key extends a labeled one
    (``0001.seg.png`` next to ``0001.cls``) is skipped, and counted. Raises ``UserError`` for any other image
    without a label, for a sample with two images or two different labels, and for an invalid label file.
    """
    found: dict[tuple[str, str], tuple[Label, SampleFile]] = {}
    first_of_kind: dict[type, tuple[Label, SampleFile]] = {}
    labelled = {file.sample for file in cls_files}
    read = itertools.chain(
        ((file, _read(file, parse_label)) for file in cls_files),
        ((file, _read_json(file, has_cls=file.sample in labelled)) for file in json_files),
    )
    for file, label in read:
        if label is None:
            continue
        first_of_kind.setdefault(type(label), (label, file))
        first_label, first = found.setdefault(file.sample, (label, file))
        if (type(first_label), first_label) != (type(label), label):
            sentence = "{path} has label {label!r}, but {first} has {first_label!r}."
            values = {"path": str(file), "label": label, "first": str(first), "first_label": first_label}
            raise UserError("conflicting-labels", sentence, "Remove one of them.", **values)
    if not found:
        return None
    if len(first_of_kind) > 1:
        raise mixed_labels(f"{label!r} in {file}" for label, file in first_of_kind.values())
    labels, companions = {}, []
    owners: dict[tuple[str, str], SampleFile] = {}
    for image in images:
        if image.sample in found:
            if (first := owners.setdefault(image.sample, image)) is not image:
                raise duplicate_key(image, first)
            labels[image] = found[image.sample][0]
        elif _extends(image.sample, found):
            companions.append(image)
        else:
            sentence, hint = "{path} has no label.", "Add a .cls or .json file with its label."
            raise UserError("image-without-label", sentence, hint, path=str(image))
    if companions:
        notes.say(f"skipped unlabeled images whose key extends a labeled one: {first_of(companions)}")
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


def _read(file: SampleFile, parse: Callable[[str], Label | None]) -> Label | None:
    try:
        return parse(file.read().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        sentence, hint = "{path} does not contain a label ({reason}).", "Write a class index or a class name."
        raise UserError("invalid-label", sentence, hint, path=str(file), reason=str(error)) from error


def _read_json(file: SampleFile, has_cls: bool) -> Label | None:
    """None if it has no label; next to a .cls file it may contain anything."""
    try:
        return _read(file, lambda text: _from_json(json.loads(text)))
    except UserError:
        if has_cls:
            return None
        raise


def _from_json(value: object) -> Label | None:
    """An index or a name, directly or in one of the usual fields; None for a list."""
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
    raise ValueError(f"{json.dumps(value)[:40]} is neither a class index nor a class name")

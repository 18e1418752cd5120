"""Given labels: noise drawn over the clean ones, or real noisy labels from a file."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pyarrow import csv
from torch import Tensor

from hardness import seeding
from hardness.console import warn
from hardness.datasets.base import DataSet, ImageSet
from hardness.datasets.label_columns import LabelError, as_labels
from hardness.errors import UserError
from hardness.settings import GivenLabels


def given_labels(data: DataSet, config: GivenLabels, noise: float) -> Tensor:
    """(N,) int64: the labels that the configuration puts in place of the clean ones."""
    clean = data.train.clean_labels
    if config.given_labels is not None:
        return read_labels(config.given_labels, len(clean), data.class_names)
    return noisy_labels(clean, noise, config.noise_seed)


def noise_rate(images: ImageSet) -> float:
    """The realised share of corrupt labels among the readable examples."""
    ids = torch.tensor(images.ids)
    return (images.given_labels != images.clean_labels)[ids].double().mean().item()


def labels_fingerprint(given_labels: Tensor) -> str:
    """Of (N,) labels: a run does not go on with others."""
    return hashlib.sha256(given_labels.numpy().tobytes()).hexdigest()[:16]


def noisy_labels(clean_labels: Tensor, noise: float, seed: int) -> Tensor:
    """Redraw each label uniformly over the classes that occur, with probability ``noise``.

    After Zhang et al. 2017. (N,) int64 -> (N,) int64. A redraw may give the clean label again. The draws
    depend on ``seed`` alone, so the labels redrawn at a low level are among those redrawn at a higher one, to
    the same classes.
    """
    generator = seeding.generator(seed, "label noise")
    is_redrawn = torch.from_numpy(generator.random(len(clean_labels)) < noise)
    classes = torch.unique(clean_labels)
    drawn = classes[torch.from_numpy(generator.integers(len(classes), size=len(clean_labels)))]
    return torch.where(is_redrawn, drawn, clean_labels)


def read_labels(path: Path, num_examples: int, class_names: Sequence[str]) -> Tensor:
    """(N,) int64 from a Parquet or CSV file with the columns example_id and label.

    A label is a class index or the name of a class. Raises ``UserError``, with the first row that is wrong,
    unless every id of 0..N-1 is there once, with a label of a class.
    """

    def refuse(expected: str, found: str) -> UserError:
        return UserError(f"{expected} in {path}", found, "correct the file")

    columns = _read_columns(path, refuse)
    try:
        ids = np.array(as_labels(columns["example_id"], num_examples))
    except LabelError as error:
        raise refuse(f"ids of 0..{num_examples - 1} in column example_id", str(error)) from error
    if ids.dtype.kind != "i":
        raise refuse("whole numbers in column example_id", f"values of type {columns['example_id'].type}")
    try:
        labels = as_labels(columns["label"], len(class_names))
    except LabelError as error:
        raise refuse("class indices or class names in column label", str(error)) from error
    known = f"ids of 0..{num_examples - 1} once each"
    counts = np.bincount(ids, minlength=num_examples)
    if len(repeated := np.flatnonzero(counts > 1)):
        raise refuse(known, f"id {repeated[0]} {counts[repeated[0]]} times")
    if len(missing := np.flatnonzero(counts == 0)):
        raise refuse(known, f"{len(missing)} ids missing, the first {missing[0]}")
    number_of = {name: number for number, name in enumerate(class_names)}
    has_numbers_as_names = any(name.isdecimal() and name != str(i) for name, i in number_of.items())
    if has_numbers_as_names and not isinstance(labels[0], str):
        warn(f"numbers in {path} are class indices 0..{len(class_names) - 1}, not the names of classes")
    given = torch.empty(num_examples, dtype=torch.int64)
    for row, label in enumerate(labels):
        if isinstance(label, str) and label not in number_of:
            raise refuse("class indices or class names in column label", f"{label!r} in row {row}")
    given[torch.tensor(ids)] = torch.tensor([number_of.get(label, label) for label in labels])
    return given


def _read_columns(path: Path, refuse: Callable[[str, str], UserError]) -> pa.Table:
    try:
        # pandas would make floats of whole numbers with gaps.
        table = csv.read_csv(path) if path.suffix.lower() == ".csv" else pq.read_table(path)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise refuse("Parquet, or CSV in a file named .csv,", str(error).splitlines()[0]) from error
    for name in ("example_id", "label"):
        if table.schema.names.count(name) != 1:
            raise refuse(f"a column {name}", f"columns {', '.join(table.schema.names)}")
    return table


def check_classes(data: DataSet) -> None:
    """Note the classes that training or validation lack.

    Raises ``UserError`` for a class of validation images alone.
    """
    trained, validated = (
        np.bincount(part.clean_labels, minlength=data.num_classes) > 0
        for part in (data.train, data.validation)
    )

    def named(where: np.ndarray) -> str:
        names = [data.class_names[i] for i in np.flatnonzero(where)]
        return f"{len(names):,} of {len(where):,} ({', '.join(names[:5])}{', ...' * (len(names) > 5)})"

    if (alone := validated & ~trained).any():
        do = "remove them, or add training images"
        raise UserError(
            "training images of every class", f"none of {named(alone)}, only validation images", do
        )
    if (empty := ~trained).any():
        hint = (
            ": do labels start at 1? They must start at 0" if empty[0] and data.class_names[0] == "0" else ""
        )
        data.notes.warn(f"classes without training images: {named(empty)}{hint}")
    if (alone := trained & ~validated).any():
        data.notes.warn(f"classes without validation images: {named(alone)}")

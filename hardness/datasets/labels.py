"""Given labels: clean labels with simulated noise, or real noisy labels from a file."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pyarrow import csv
from torch import Tensor

from hardness import seeding
from hardness.config import GivenLabels
from hardness.console import warn
from hardness.datasets.examples import DataSet, Examples
from hardness.datasets.label_columns import as_labels, no_such_column, wrong_type
from hardness.errors import UserError


def given_labels(data: DataSet, config: GivenLabels, noise: float) -> Tensor:
    """(N,) int64: the labels that replace the clean ones in this configuration."""
    clean = data.train.clean_labels
    if config.given_labels is not None:
        return read_labels(config.given_labels, len(clean), data.class_names)
    return noisy_labels(clean, noise, config.noise_seed)


def noise_rate(examples: Examples) -> float:
    """The actual fraction of corrupt labels among the readable examples."""
    ids = torch.tensor(examples.ids)
    return (examples.given_labels != examples.clean_labels)[ids].double().mean().item()


def labels_fingerprint(given_labels: Tensor) -> str:
    """Of (N,) labels: a run is only resumed with the same labels."""
    return hashlib.sha256(given_labels.numpy().tobytes()).hexdigest()[:16]


def noisy_labels(clean_labels: Tensor, noise: float, seed: int) -> Tensor:
    """Redraw each label uniformly over the classes that occur, with probability ``noise``.

    After Zhang et al. 2017. (N,) int64 -> (N,) int64. A redraw may give the clean label again. Draws only
    depend on ``seed``: labels redrawn at a low noise level are redrawn to the same class at every higher one.
    """
    generator = seeding.generator(seed, "label noise")
    is_redrawn = torch.from_numpy(generator.random(len(clean_labels)) < noise)
    classes = torch.unique(clean_labels)
    drawn = classes[torch.from_numpy(generator.integers(len(classes), size=len(clean_labels)))]
    return torch.where(is_redrawn, drawn, clean_labels)


def read_labels(path: Path, num_examples: int, class_names: Sequence[str]) -> Tensor:
    """(N,) int64 from a Parquet or CSV file with the columns example_id and label.

    A label is a class index or a class name. Raises ``UserError`` with the first invalid row, and unless each
    id of 0..N-1 occurs once.
    """
    columns = _read_columns(path)
    ids = np.array(as_labels(columns["example_id"], num_examples, path, "example_id"))
    if ids.dtype.kind != "i":
        raise wrong_type(path, "example_id", columns["example_id"].type, "Write integers.")
    labels = as_labels(columns["label"], len(class_names), path, "label")
    counts = np.bincount(ids, minlength=num_examples)
    if len(wrong := np.flatnonzero(counts != 1)):
        sentence = "{path} has {count} rows with example id {example}."
        hint = "List each id from 0 to {last} once."
        values = {"example": int(wrong[0]), "count": int(counts[wrong[0]]), "last": num_examples - 1}
        raise UserError("wrong-example-ids", sentence, hint, path=str(path), **values)
    number_of = {name: number for number, name in enumerate(class_names)}
    has_numbers_as_names = any(name.isdecimal() and name != str(i) for name, i in number_of.items())
    if has_numbers_as_names and not isinstance(labels[0], str):
        warn(f"numbers in {path} are read as class indices 0..{len(class_names) - 1}, not as class names")
    for row, label in enumerate(labels):
        if isinstance(label, str) and label not in number_of:
            sentence = "Column label of {path} has {label!r} in row {row}, which is not a class."
            hint = "Use class names or class indices of the data set."
            raise UserError("unknown-class", sentence, hint, path=str(path), label=label, row=row)
    given = torch.empty(num_examples, dtype=torch.int64)
    given[torch.tensor(ids)] = torch.tensor([number_of.get(label, label) for label in labels])
    return given


def _read_columns(path: Path) -> pa.Table:
    try:
        # pandas would convert integers with missing values to floats.
        table = csv.read_csv(path) if path.suffix.lower() == ".csv" else pq.read_table(path)
    except (ValueError, OSError, pa.ArrowException) as error:
        sentence = "{path} is neither a Parquet file, nor a CSV file with a name ending in .csv ({reason})."
        values = {"path": str(path), "reason": str(error).splitlines()[0]}
        raise UserError("unreadable-labels", sentence, "Correct the file.", **values) from error
    for name in ("example_id", "label"):
        if table.schema.names.count(name) != 1:
            raise no_such_column(path, name, table.schema.names, "Correct the file.")
    return table


def check_classes(data: DataSet) -> None:
    """Warn about classes without training or without validation images.

    Raises ``UserError`` for a class that has only validation images.
    """
    trained, validated = (
        np.bincount(part.clean_labels, minlength=data.num_classes) > 0
        for part in (data.train, data.validation)
    )

    def named(where: np.ndarray) -> str:
        names = [data.class_names[i] for i in np.flatnonzero(where)]
        return f"{len(names):,} of {len(where):,} ({', '.join(names[:5])}{', ...' * (len(names) > 5)})"

    if (alone := validated & ~trained).any():
        sentence = "Classes with validation images but without training images: {classes}."
        hint = "Add training images, or remove those classes."
        raise UserError("class-only-in-validation", sentence, hint, classes=named(alone))
    if (empty := ~trained).any():
        starts_at_1 = empty[0] and data.class_names[0] == "0"
        hint = ". Do labels start at 1? They must start at 0" if starts_at_1 else ""
        data.notes.warn(f"classes without training images: {named(empty)}{hint}")
    if (alone := trained & ~validated).any():
        data.notes.warn(f"classes without validation images: {named(alone)}")

"""Given labels: noise drawn over the clean ones, or real noisy labels from a file."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from hardness import seeding
from hardness.datasets.base import DataSet, ImageSet
from hardness.errors import UserError
from hardness.settings import GivenLabels


def given_labels(data: DataSet, config: GivenLabels, noise: float) -> Tensor:
    """(N,) int64: the labels that the configuration puts in place of the clean ones."""
    clean = data.train.clean_labels
    if config.given_labels is not None:
        return read_labels(config.given_labels, len(clean), data.num_classes)
    return noisy_labels(clean, data.num_classes, noise, config.noise_seed)


def noise_rate(images: ImageSet) -> float:
    """The realised share of corrupt labels among the readable examples."""
    ids = torch.tensor(images.ids)
    return (images.given_labels != images.clean_labels)[ids].double().mean().item()


def labels_fingerprint(given_labels: Tensor) -> str:
    """Of (N,) labels: a run does not go on with others."""
    return hashlib.sha256(given_labels.numpy().tobytes()).hexdigest()[:16]


def noisy_labels(clean_labels: Tensor, num_classes: int, noise: float, seed: int) -> Tensor:
    """Redraw each label uniformly over all classes with probability ``noise`` (Zhang et al. 2017).

    (N,) int64 -> (N,) int64. A redraw may give the clean label again. The draws depend on ``seed`` alone,
    so the labels redrawn at a low level are among those redrawn at a higher one, to the same classes.
    """
    generator = seeding.generator(seed, "label noise")
    is_redrawn = torch.from_numpy(generator.random(len(clean_labels)) < noise)
    drawn = torch.from_numpy(generator.integers(num_classes, size=len(clean_labels)))
    return torch.where(is_redrawn, drawn, clean_labels)


def read_labels(path: Path, num_examples: int, num_classes: int) -> Tensor:
    """(N,) int64 from a Parquet or CSV file with the columns example_id and label (class index).

    Raises ``UserError`` unless every id of 0..N-1 is there once, with a label of 0..num_classes-1.
    """

    def refuse(expected: str, found: str) -> UserError:
        return UserError(f"{expected} in {path}", found, "mend the file")

    try:
        table = pd.read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    except (ValueError, UnicodeDecodeError, pa.ArrowInvalid) as error:
        raise refuse("Parquet, or CSV in a file named .csv,", str(error).splitlines()[0]) from error
    for name in ("example_id", "label"):
        if name not in table:
            raise refuse(f"a column {name}", f"columns {', '.join(map(str, table.columns))}")
        if not pd.api.types.is_integer_dtype(table[name]) or table[name].isna().any():
            raise refuse(f"whole numbers in column {name}", f"{table[name].dtype}, perhaps with gaps")
    ids, labels = table["example_id"].to_numpy(np.int64), table["label"].to_numpy(np.int64)
    known = f"ids of 0..{num_examples - 1} once each"
    if len(unknown := ids[(ids < 0) | (ids >= num_examples)]):
        raise refuse(known, f"unknown id {unknown[0]}")
    counts = np.bincount(ids, minlength=num_examples)
    if len(repeated := np.flatnonzero(counts > 1)):
        raise refuse(known, f"id {repeated[0]} {counts[repeated[0]]} times")
    if len(missing := np.flatnonzero(counts == 0)):
        raise refuse(known, f"{len(missing)} ids missing, the first {missing[0]}")
    if len(outside := labels[(labels < 0) | (labels >= num_classes)]):
        raise refuse(f"labels of 0..{num_classes - 1}", f"label {outside[0]}")
    given = torch.empty(num_examples, dtype=torch.int64)
    given[torch.tensor(ids)] = torch.tensor(labels)
    return given

"""One pass over the epochs of a run: each accumulator receives them in order and keeps a few vectors."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import pandas as pd

from hardness.dynamics.store import Records
from hardness.errors import UserError

Quantity = Callable[[Records], np.ndarray]
_INFINITY = 0x7C00
"""Bit pattern of the float16 infinity."""


class Accumulator(Protocol):
    def add(self, epoch: int, records: Records) -> None: ...

    def result(self) -> pd.Series:
        """(N,): null for an example without a value."""
        ...


class FirstLearnedEpoch:
    def __init__(self, num_examples: int):
        self.epoch = np.zeros(num_examples, np.int32)

    def add(self, epoch: int, records: Records) -> None:
        self.epoch[(self.epoch == 0) & records.is_correct] = epoch

    def result(self) -> pd.Series:
        return _integers(self.epoch, is_null=self.epoch == 0)


class LearnedEpoch(FirstLearnedEpoch):
    """As ``FirstLearnedEpoch``, but a wrong record starts the search again."""

    def add(self, epoch: int, records: Records) -> None:
        self.epoch[self.epoch == 0] = epoch
        self.epoch *= records.is_correct


class ForgettingEvents:
    def __init__(self, num_examples: int):
        self.count = np.zeros(num_examples, np.int32)
        self.was_correct = np.zeros(num_examples, bool)
        self.was_learned = np.zeros(num_examples, bool)

    def add(self, epoch: int, records: Records) -> None:
        self.count += self.was_correct & ~records.is_correct
        self.was_correct = records.is_correct
        self.was_learned |= records.is_correct

    def result(self) -> pd.Series:
        return _integers(self.count, is_null=~self.was_learned)


class Mean:
    """Mean over the epochs of a quantity (N,) of the records, summed in float64.

    With a ``window``, over its epochs; raises ``UserError`` unless all of them are recorded.
    """

    def __init__(self, num_examples: int, quantity: Quantity, window: range | None = None):
        self.quantity, self.window = quantity, window
        self.num_epochs = 0
        self.sum = np.zeros(num_examples)

    def add(self, epoch: int, records: Records) -> None:
        if self.window is None or epoch in self.window:
            self.num_epochs += 1
            self.sum += self.quantity(records)

    def result(self) -> pd.Series:
        if self.window is not None and self.num_epochs != len(self.window):
            sentence = "Only {found} of the epochs {first} to {last} are recorded."
            values = {"found": self.num_epochs, "first": self.window[0], "last": self.window[-1]}
            raise UserError("window-not-recorded", sentence, "Choose recorded epochs.", **values)
        return pd.Series(self.sum / self.num_epochs)


class Last:
    """A quantity at the last epoch."""

    def __init__(self, num_examples: int, quantity: Quantity):
        self.quantity = quantity

    def add(self, epoch: int, records: Records) -> None:
        self.values = self.quantity(records)

    def result(self) -> pd.Series:
        return pd.Series(self.values.astype(np.float64))


class Deviation:
    """Standard deviation of a quantity, ddof 0 (Welford 1962)."""

    def __init__(self, num_examples: int, quantity: Quantity):
        self.quantity = quantity
        self.num_epochs = 0
        self.mean = np.zeros(num_examples)
        self.squares = np.zeros(num_examples)

    def add(self, epoch: int, records: Records) -> None:
        self.num_epochs += 1
        delta = self.quantity(records) - self.mean
        self.mean += delta / self.num_epochs
        delta *= delta
        delta *= (self.num_epochs - 1) / self.num_epochs
        self.squares += delta

    def result(self) -> pd.Series:
        return pd.Series(np.sqrt(self.squares / self.num_epochs))


def loss_rank(records: Records) -> np.ndarray:
    """(N,) float64: fraction of the epoch's examples with a smaller loss, counting equal losses half.

    Losses are compared as float16, as they are recorded: 65,536 bins need no sorting.
    """
    with np.errstate(over="ignore"):
        bins = np.maximum(records.loss, 0).astype(np.float16).view(np.uint16)
    counts = np.bincount(bins, minlength=1 << 16)
    # Bit patterns above infinity are nan.
    share = np.full(len(counts), np.nan)
    known = counts[: _INFINITY + 1]
    share[: _INFINITY + 1] = (known.cumsum() - known / 2) / max(known.sum(), 1)
    return share[bins]


def correctness(records: Records) -> np.ndarray:
    """(N,) float64: 1 if the record is correct, 0 if it is wrong, nan if the image was unreadable."""
    return np.where(records.is_readable, records.is_correct, np.nan)


def _integers(values: np.ndarray, is_null: np.ndarray) -> pd.Series:
    return pd.Series(pd.arrays.IntegerArray(values, is_null))

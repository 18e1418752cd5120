"""Scores: one number an example, computed from its records in one pass over the epochs.

A score sees the epochs in order, one at a time, and keeps a few vectors. To add one, write its class here
and register it; the command line, the ranking, the splits and the plots take it from the registry.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from hardness.dynamics.store import Records, read_epochs
from hardness.errors import unknown_name


class Accumulator(Protocol):
    def add(self, epoch: int, records: Records) -> None: ...

    def result(self) -> pd.Series:
        """(N,): null for an example that has no such number."""
        ...


@dataclass(frozen=True)
class Score:
    """A published per-example number. ``sign`` +1: a larger value is harder; -1: a smaller one is."""

    name: str
    summary: str
    source: str
    range: str
    sign: int
    accumulate: Callable[[int], Accumulator]
    """Number of examples -> a fresh accumulator."""
    null_is_hardest: bool = False
    """A readable example without the number was never learned: harder than any with it."""


class FirstLearned:
    def __init__(self, num_examples: int):
        self.epoch = np.zeros(num_examples, np.int32)

    def add(self, epoch: int, records: Records) -> None:
        self.epoch[(self.epoch == 0) & records.is_correct] = epoch

    def result(self) -> pd.Series:
        return _integers(self.epoch, is_null=self.epoch == 0)


class Learned:
    def __init__(self, num_examples: int):
        self.epoch = np.zeros(num_examples, np.int32)

    def add(self, epoch: int, records: Records) -> None:
        self.epoch[self.epoch == 0] = epoch
        self.epoch *= records.is_correct

    def result(self) -> pd.Series:
        return _integers(self.epoch, is_null=self.epoch == 0)


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
    """Of one column, summed in float64."""

    def __init__(self, num_examples: int, column: str):
        self.column = column
        self.num_epochs = 0
        self.sum = np.zeros(num_examples)

    def add(self, epoch: int, records: Records) -> None:
        self.num_epochs += 1
        self.sum += getattr(records, self.column)

    def result(self) -> pd.Series:
        return pd.Series(self.sum / self.num_epochs)


class Deviation:
    """Standard deviation of one column, ddof 0 (Welford 1962)."""

    def __init__(self, num_examples: int, column: str):
        self.column = column
        self.num_epochs = 0
        self.mean = np.zeros(num_examples)
        self.squares = np.zeros(num_examples)

    def add(self, epoch: int, records: Records) -> None:
        self.num_epochs += 1
        delta = getattr(records, self.column) - self.mean
        self.mean += delta / self.num_epochs
        delta *= delta
        delta *= (self.num_epochs - 1) / self.num_epochs
        self.squares += delta

    def result(self) -> pd.Series:
        return pd.Series(np.sqrt(self.squares / self.num_epochs))


def _mean(column: str) -> Callable[[int], Accumulator]:
    return lambda num_examples: Mean(num_examples, column)


def _integers(values: np.ndarray, is_null: np.ndarray) -> pd.Series:
    return pd.Series(pd.arrays.IntegerArray(values, is_null))


class _Registry(dict[str, Score]):
    def __init__(self, *scores: Score):
        super().__init__({score.name: score for score in scores})
        if len(self) != len(scores):
            raise ValueError("a score is registered twice")

    def __missing__(self, name: str) -> Score:
        raise unknown_name("a score", name, self)


SCORES = _Registry(
    Score(
        "first_learned_epoch",
        "first epoch whose record is correct; null if none",
        "Zielinski et al. 2020, arXiv:2003.07422",
        "1..epochs",
        +1,
        FirstLearned,
        null_is_hardest=True,
    ),
    Score(
        "learned_epoch",
        "first epoch from which every later record is correct; null if the last is wrong",
        "Baldock et al. 2021, arXiv:2106.09647",
        "1..epochs",
        +1,
        Learned,
        null_is_hardest=True,
    ),
    Score(
        "forgetting_events",
        "times correct in one record and wrong in the next; null if never correct",
        "Toneva et al. 2019, arXiv:1812.05159",
        "0..epochs/2",
        +1,
        ForgettingEvents,
        null_is_hardest=True,
    ),
    Score("aum", "mean margin", "Pleiss et al. 2020, arXiv:2001.10528", "real", -1, _mean("margin")),
    Score(
        "el2n",
        "mean over all epochs of |softmax - one-hot|",
        "Paul et al. 2021, arXiv:2107.07075",
        "0..sqrt 2",
        +1,
        _mean("el2n"),
    ),
    Score(
        "confidence",
        "mean probability of the given label",
        "Swayamdipta et al. 2020, arXiv:2009.10795",
        "0..1",
        -1,
        _mean("probability"),
    ),
    Score(
        "variability",
        "standard deviation of that probability",
        "Swayamdipta et al. 2020, arXiv:2009.10795",
        "0..0.5",
        +1,
        lambda num_examples: Deviation(num_examples, "probability"),
    ),
    Score(
        "mean_loss",
        "mean cross-entropy, nats",
        "Arpit et al. 2017, arXiv:1706.05394",
        "0..",
        +1,
        _mean("loss"),
    ),
)


def scores(run: str | Path, fingerprint: str | None = None, last_epoch: int | None = None) -> pd.DataFrame:
    """Every registered score of a run, from its records alone: one row an example, ordered by example id.

    fingerprint: of the data set that the records must be of; last_epoch: leave out those after it.
    An example whose image could not be read has null in every column but ``example_id``.
    """
    accumulators: dict[str, Accumulator] = {}
    for epoch, records in read_epochs(Path(run), fingerprint, last_epoch):
        if not accumulators:
            accumulators = {name: score.accumulate(len(records.loss)) for name, score in SCORES.items()}
        for accumulator in accumulators.values():
            accumulator.add(epoch, records)
    columns = {name: accumulator.result() for name, accumulator in accumulators.items()}
    return pd.DataFrame({"example_id": np.arange(len(columns["mean_loss"])), **columns})

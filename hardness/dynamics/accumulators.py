"""The scores that need only records: one pass over the epochs, in order, which keeps a few vectors."""

from collections.abc import Callable
from operator import attrgetter

import numpy as np
import pandas as pd

from hardness.dynamics.scores import SCORES, Accumulator
from hardness.dynamics.store import Records
from hardness.errors import UserError

Quantity = Callable[[Records], np.ndarray]
_INFINITY = 0x7C00
"""Bit pattern of the float16 infinity."""


@SCORES.register(
    "first_learned_epoch",
    formula="min {t : argmax z_t = y}",
    source="Zielinski et al. 2020, arXiv:2003.07422",
    range="1..T",
    needs="prediction",
    sign=+1,
    use="The paper's own. Coarse: most ties are in epoch 1, so track with a small learning rate.",
    null_is_hardest=True,
)
class FirstLearnedEpoch:
    """First epoch whose record is correct; null if none."""

    def __init__(self, num_examples: int):
        self.epoch = np.zeros(num_examples, np.int32)

    def add(self, epoch: int, records: Records) -> None:
        self.epoch[(self.epoch == 0) & records.is_correct] = epoch

    def result(self) -> pd.Series:
        return _integers(self.epoch, is_null=self.epoch == 0)


@SCORES.register(
    "learned_epoch",
    formula="min {t : argmax z_s = y for all s >= t}",
    source="Baldock et al. 2021, arXiv:2106.09647",
    range="1..T",
    needs="prediction",
    sign=+1,
    use="Does not count a single lucky correct prediction. Depends much on the last epoch.",
    null_is_hardest=True,
)
class LearnedEpoch(FirstLearnedEpoch):
    """First epoch from which every later record is correct; null if the last is wrong."""

    def add(self, epoch: int, records: Records) -> None:
        super().add(epoch, records)
        # A wrong record starts the search again.
        self.epoch[records.is_readable & ~records.is_correct] = 0


@SCORES.register(
    "forgetting_events",
    formula="#{t : argmax z_t = y, argmax z_(t+1) != y}",
    source="Toneva et al. 2019, arXiv:1812.05159",
    range="0..T/2",
    needs="prediction",
    sign=+1,
    use="Examples that a network forgets repeatedly. Needs many epochs; most examples have none.",
    null_is_hardest=True,
)
class ForgettingEvents:
    """Times correct in one record and wrong in the next; null if never correct."""

    def __init__(self, num_examples: int):
        self.count = np.zeros(num_examples, np.int32)
        self.was_correct = np.zeros(num_examples, bool)
        self.was_learned = np.zeros(num_examples, bool)

    def add(self, epoch: int, records: Records) -> None:
        self.count += self.was_correct & records.is_readable & ~records.is_correct
        self.was_correct = np.where(records.is_readable, records.is_correct, self.was_correct)
        self.was_learned |= records.is_correct

    def result(self) -> pd.Series:
        return _integers(self.count, is_null=~self.was_learned)


class Mean:
    """Mean, over the epochs that have a record, of a quantity (N,) of the records, summed in float64.

    With a ``window``, over its epochs; raises ``UserError`` unless all of them are recorded.
    """

    def __init__(self, num_examples: int, quantity: Quantity, window: range | None = None):
        self.quantity, self.window = quantity, window
        self.num_epochs = 0
        self.counts = np.zeros(num_examples, np.int32)
        self.sum = np.zeros(num_examples)

    def add(self, epoch: int, records: Records) -> None:
        if self.window is None or epoch in self.window:
            self.num_epochs += 1
            self.counts += records.is_readable
            self.sum += _or_0(self.quantity(records), records)

    def result(self) -> pd.Series:
        if self.window is not None and self.num_epochs != len(self.window):
            sentence = "Only {found} of the epochs {first} to {last} are recorded."
            values = {"found": self.num_epochs, "first": self.window[0], "last": self.window[-1]}
            raise UserError("window-not-recorded", sentence, "Choose recorded epochs.", **values)
        return pd.Series(_per_epoch(self.sum, self.counts))


class Last:
    """A quantity at the last epoch that has a record."""

    def __init__(self, num_examples: int, quantity: Quantity):
        self.quantity = quantity
        self.values = np.full(num_examples, np.nan)

    def add(self, epoch: int, records: Records) -> None:
        np.copyto(self.values, self.quantity(records), where=records.is_readable)

    def result(self) -> pd.Series:
        return pd.Series(self.values)


class Deviation:
    """Standard deviation of a quantity, ddof 0 (Welford 1962)."""

    def __init__(self, num_examples: int, quantity: Quantity):
        self.quantity = quantity
        self.counts = np.zeros(num_examples, np.int32)
        self.mean = np.zeros(num_examples)
        self.squares = np.zeros(num_examples)

    def add(self, epoch: int, records: Records) -> None:
        self.counts += records.is_readable
        counts = np.maximum(self.counts, 1)
        delta = _or_0(self.quantity(records) - self.mean, records)
        self.mean += delta / counts
        delta *= delta
        delta *= (counts - 1) / counts
        self.squares += delta

    def result(self) -> pd.Series:
        return pd.Series(np.sqrt(_per_epoch(self.squares, self.counts)))


def _or_0(values: np.ndarray, records: Records) -> np.ndarray:
    return values if records.is_complete else np.where(records.is_readable, values, 0)


def _per_epoch(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """nan where there is no record."""
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def loss_ranks(records: Records) -> np.ndarray:
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


def _integers(values: np.ndarray, is_null: np.ndarray) -> pd.Series:
    return pd.Series(pd.arrays.IntegerArray(values, is_null))


@SCORES.register(
    "correctness",
    formula="mean over t of [argmax z_t = y]",
    source="Swayamdipta et al. 2020, arXiv:2009.10795",
    range="0..1",
    needs="prediction",
    sign=-1,
    use="Combines first-learned, learned and forgetting, with fewer ties than each.",
)
def correctness(num_examples: int) -> Accumulator:
    """Share of the epochs whose record is correct."""
    return Mean(num_examples, attrgetter("is_correct"))


@SCORES.register(
    "aum",
    formula="mean over t of (z_y - max_(k != y) z_k)",
    source="Pleiss et al. 2020, arXiv:2001.10528",
    range="real",
    sign=-1,
    use="Label errors; still separates easy examples when their loss is zero.",
)
def aum(num_examples: int) -> Accumulator:
    """Mean margin."""
    return Mean(num_examples, attrgetter("margin"))


@SCORES.register(
    "el2n",
    formula="mean over t of |softmax(z_t) - onehot(y)|",
    source="Paul et al. 2021, arXiv:2107.07075",
    range="0..sqrt 2",
    sign=+1,
    use="Pruning; its authors use about the first ten epochs, and a mean over seeds.",
)
def el2n(num_examples: int, window: range | None = None) -> Accumulator:
    """Mean over all epochs of |softmax - one-hot|; el2n_1_10 over the epochs 1 to 10."""
    return Mean(num_examples, attrgetter("el2n"), window)


@SCORES.register(
    "confidence",
    formula="mean over t of p_t",
    source="Swayamdipta et al. 2020, arXiv:2009.10795",
    range="0..1",
    sign=-1,
    use="One axis of the data map; bounded, so no single epoch weighs much.",
)
def confidence(num_examples: int) -> Accumulator:
    """Mean probability of the given label."""
    return Mean(num_examples, attrgetter("probability"))


@SCORES.register(
    "variability",
    formula="standard deviation over t of p_t (ddof 0)",
    source="Swayamdipta et al. 2020, arXiv:2009.10795",
    range="0..0.5",
    sign=+1,
    use="The other axis of the data map: ambiguous examples. Never-learned ones vary as little as easy ones.",
)
def variability(num_examples: int) -> Accumulator:
    """Standard deviation of the probability of the given label."""
    return Deviation(num_examples, attrgetter("probability"))


@SCORES.register(
    "aleatoric",
    formula="mean over t of p_t (1 - p_t)",
    source="Seedat et al. 2022, arXiv:2210.13043",
    range="0..0.25",
    sign=+1,
    use="Ambiguous examples; depends less on the course of training than variability.",
)
def aleatoric(num_examples: int) -> Accumulator:
    """Data-IQ's aleatoric uncertainty of the probability of the given label."""
    return Mean(num_examples, lambda records: records.probability * (1 - records.probability))


@SCORES.register(
    "mean_loss",
    formula="mean over t of L_t",
    source="Arpit et al. 2017, arXiv:1706.05394",
    range="0..",
    needs="loss",
    sign=+1,
    use="A good default where ties are a problem; sensitive to one very bad epoch.",
)
def mean_loss(num_examples: int) -> Accumulator:
    """Mean cross-entropy, nats."""
    return Mean(num_examples, attrgetter("loss"))


@SCORES.register(
    "last_loss",
    formula="L_T",
    source="Han et al. 2018, arXiv:1804.06872",
    range="0..",
    needs="loss",
    sign=+1,
    use="What a single checkpoint shows; useless once everything is fitted.",
)
def last_loss(num_examples: int) -> Accumulator:
    """Cross-entropy at the last epoch, nats."""
    return Last(num_examples, attrgetter("loss"))


@SCORES.register(
    "loss_rank",
    formula="mean over t of (#{j : L_t(j) < L_t} + #{j : L_t(j) = L_t} / 2) / N",
    source="Huang et al. 2019 (O2U-Net, ICCV), who subtract each epoch's mean loss",
    range="0..1",
    needs="loss",
    sign=+1,
    use="Gives every epoch the same weight, however small its losses.",
)
def loss_rank(num_examples: int) -> Accumulator:
    """Mean over the epochs of the share of examples whose loss is smaller."""
    return Mean(num_examples, loss_ranks)

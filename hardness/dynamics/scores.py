"""Scores: one number per example.

Free scores are computed from the records alone, in one pass over the epochs. Probes need the network
(``hardness score --with``); they are listed here with the location of their code in ``hardness.probes``. To
add a score, write it and register it: the command line, rankings, splits and plots read this registry.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

import numpy as np
import pandas as pd

from hardness.dynamics import accumulators
from hardness.dynamics.accumulators import Accumulator
from hardness.dynamics.store import read_epochs
from hardness.errors import UserError
from hardness.registry import Entry, Registry


@dataclass(frozen=True, kw_only=True)
class ScoreEntry(Entry):
    """A published per-example number, with the function that computes it."""

    formula: str
    """Of p, the probability of the given label y; z, the logits; L, the loss; t, an epoch of T."""
    source: str
    range: str
    sign: int
    """+1: a larger value is harder; -1: a smaller one is."""
    use: str
    """When to choose it, and its caveats."""
    null_is_hardest: bool = False
    """A readable example whose value is null was never learned: harder than every other example."""
    window: range | None = None
    """Of EL2N: the epochs over which it is the mean."""

    @property
    def needs_network(self) -> bool:
        return self.target.startswith("hardness.probes.")

    def accumulator(self, num_examples: int) -> Accumulator:
        """Computes the score from records."""
        return self.load()(num_examples, **({"window": self.window} if self.window else {}))


class _Scores(Registry[ScoreEntry]):
    def __getitem__(self, name: str) -> ScoreEntry:
        """``el2n_1_10`` is EL2N over the epochs 1 to 10."""
        window = re.fullmatch(r"el2n_([1-9]\d*)_([1-9]\d*)", name)
        if not window or (first := int(window[1])) > (last := int(window[2])):
            return super().__getitem__(name)
        return replace(
            self["el2n"],
            name=name,
            summary=f"EL2N over the epochs {first} to {last}.",
            formula=f"mean over t = {first}..{last} of |softmax(z_t) - onehot(y)|",
            window=range(first, last + 1),
        )


SCORES = _Scores("a score", "dynamics", "probes", entry_type=ScoreEntry)


@SCORES.register(
    "first_learned_epoch",
    formula="min {t : argmax z_t = y}",
    source="Zielinski et al. 2020, arXiv:2003.07422",
    range="1..T",
    sign=+1,
    use="The paper's own. Coarse: most ties are in epoch 1, so track with a small learning rate.",
    null_is_hardest=True,
)
def first_learned_epoch(num_examples: int) -> Accumulator:
    """First epoch whose record is correct; null if none."""
    return accumulators.FirstLearnedEpoch(num_examples)


@SCORES.register(
    "learned_epoch",
    formula="min {t : argmax z_s = y for all s >= t}",
    source="Baldock et al. 2021, arXiv:2106.09647",
    range="1..T",
    sign=+1,
    use="Does not count a single lucky correct prediction. Depends much on the last epoch.",
    null_is_hardest=True,
)
def learned_epoch(num_examples: int) -> Accumulator:
    """First epoch from which every later record is correct; null if the last is wrong."""
    return accumulators.LearnedEpoch(num_examples)


@SCORES.register(
    "forgetting_events",
    formula="#{t : argmax z_t = y, argmax z_(t+1) != y}",
    source="Toneva et al. 2019, arXiv:1812.05159",
    range="0..T/2",
    sign=+1,
    use="Examples that a network forgets repeatedly. Needs many epochs; most examples have none.",
    null_is_hardest=True,
)
def forgetting_events(num_examples: int) -> Accumulator:
    """Times correct in one record and wrong in the next; null if never correct."""
    return accumulators.ForgettingEvents(num_examples)


@SCORES.register(
    "correctness",
    formula="mean over t of [argmax z_t = y]",
    source="Swayamdipta et al. 2020, arXiv:2009.10795",
    range="0..1",
    sign=-1,
    use="Combines first-learned, learned and forgetting, with fewer ties than each.",
)
def correctness(num_examples: int) -> Accumulator:
    """Share of the epochs whose record is correct."""
    return accumulators.Mean(num_examples, accumulators.correctness)


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
    return accumulators.Mean(num_examples, attrgetter("margin"))


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
    return accumulators.Mean(num_examples, attrgetter("el2n"), window)


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
    return accumulators.Mean(num_examples, attrgetter("probability"))


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
    return accumulators.Deviation(num_examples, attrgetter("probability"))


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
    return accumulators.Mean(num_examples, lambda records: records.probability * (1 - records.probability))


@SCORES.register(
    "mean_loss",
    formula="mean over t of L_t",
    source="Arpit et al. 2017, arXiv:1706.05394",
    range="0..",
    sign=+1,
    use="A good default where ties are a problem; sensitive to one very bad epoch.",
)
def mean_loss(num_examples: int) -> Accumulator:
    """Mean cross-entropy, nats."""
    return accumulators.Mean(num_examples, attrgetter("loss"))


@SCORES.register(
    "last_loss",
    formula="L_T",
    source="Han et al. 2018, arXiv:1804.06872",
    range="0..",
    sign=+1,
    use="What a single checkpoint shows; useless once everything is fitted.",
)
def last_loss(num_examples: int) -> Accumulator:
    """Cross-entropy at the last epoch, nats."""
    return accumulators.Last(num_examples, attrgetter("loss"))


@SCORES.register(
    "loss_rank",
    formula="mean over t of (#{j : L_t(j) < L_t} + #{j : L_t(j) = L_t} / 2) / N",
    source="Huang et al. 2019 (O2U-Net, ICCV), who subtract each epoch's mean loss",
    range="0..1",
    sign=+1,
    use="Gives every epoch the same weight, however small its losses.",
)
def loss_rank(num_examples: int) -> Accumulator:
    """Mean over the epochs of the share of examples whose loss is smaller."""
    return accumulators.Mean(num_examples, accumulators.loss_rank)


FREE = tuple(name for name, score in SCORES.items() if not score.needs_network)


def scores(
    run: str | Path,
    fingerprint: str | None = None,
    last_epoch: int | None = None,
    names: Iterable[str] = FREE,
) -> pd.DataFrame:
    """The free scores of a run, from its records alone: one row per example, ordered by example id.

    fingerprint: the data set that the records must belong to; last_epoch: ignore later epochs; names: which
    scores (those that need the network are computed by ``hardness score --with``).
    An example whose image could not be read is null in every column except ``example_id``.
    """
    names = list(dict.fromkeys(names))
    if needs_network := [name for name in names if SCORES[name].needs_network]:
        sentence = "{score} cannot be computed from records: it needs the network."
        hint = "Run `hardness score --with {score}`, and read scores.parquet."
        raise UserError("score-needs-network", sentence, hint, score=needs_network[0])
    computed: dict[str, Accumulator] = {}
    for epoch, records in read_epochs(Path(run), fingerprint, last_epoch):
        if epoch == 1:
            computed = {name: SCORES[name].accumulator(len(records.loss)) for name in names}
        for accumulator in computed.values():
            accumulator.add(epoch, records)
    columns = {name: accumulator.result() for name, accumulator in computed.items()}
    return pd.DataFrame({"example_id": np.arange(len(records.loss)), **columns})

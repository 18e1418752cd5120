"""Scores: one number per example.

Free scores are computed from the records alone, in one pass over the epochs. Probes need the network
(``hardness score --with``); they are listed here with the location of their code in ``hardness.probes``. To
add a score, write it and register it: the command line, rankings, splits and plots read this registry.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np
import pandas as pd

from hardness.dynamics import accumulators
from hardness.dynamics.store import read_epochs
from hardness.errors import UserError
from hardness.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Score:
    """A published per-example number. ``sign`` +1: a larger value is harder; -1: a smaller one is."""

    name: str
    summary: str
    formula: str
    """Of p, the probability of the given label y; z, the logits; L, the loss; t, an epoch of T."""
    source: str
    range: str
    sign: int
    use: str
    """When to choose it, and its caveats."""
    accumulate: Callable[[int], accumulators.Accumulator] | None = None
    """Of a free score: number of examples -> a new accumulator."""
    probe: str | None = None
    """Of any other score: ``module:function``, computed from a tracked run's network and data."""
    null_is_hardest: bool = False
    """A readable example whose value is null was never learned: harder than every other example."""


class _Scores(Registry):
    def __missing__(self, name: str) -> Score:
        """``el2n_1_10`` is EL2N over the epochs 1 to 10."""
        window = re.fullmatch(r"el2n_([1-9]\d*)_([1-9]\d*)", name)
        if not window or (first := int(window[1])) > (last := int(window[2])):
            return super().__missing__(name)
        return replace(
            self["el2n"],
            name=name,
            summary=f"EL2N over the epochs {first} to {last}",
            formula=f"mean over t = {first}..{last} of |softmax(z_t) - onehot(y)|",
            accumulate=partial(accumulators.Mean, quantity=attrgetter("el2n"), window=range(first, last + 1)),
        )


SCORES = _Scores(
    "a score",
    Score(
        name="first_learned_epoch",
        summary="first epoch whose record is correct; null if none",
        formula="min {t : argmax z_t = y}",
        source="Zielinski et al. 2020, arXiv:2003.07422",
        range="1..T",
        sign=+1,
        use="The paper's own. Coarse: most ties are in epoch 1, so track with a small learning rate.",
        accumulate=accumulators.FirstLearned,
        null_is_hardest=True,
    ),
    Score(
        name="learned_epoch",
        summary="first epoch from which every later record is correct; null if the last is wrong",
        formula="min {t : argmax z_s = y for all s >= t}",
        source="Baldock et al. 2021, arXiv:2106.09647",
        range="1..T",
        sign=+1,
        use="Where being right once by luck should not count. Depends much on the last epoch.",
        accumulate=accumulators.Learned,
        null_is_hardest=True,
    ),
    Score(
        name="forgetting_events",
        summary="times correct in one record and wrong in the next; null if never correct",
        formula="#{t : argmax z_t = y, argmax z_(t+1) != y}",
        source="Toneva et al. 2019, arXiv:1812.05159",
        range="0..T/2",
        sign=+1,
        use="Which examples a network keeps losing. Needs many epochs; most examples have none.",
        accumulate=accumulators.ForgettingEvents,
        null_is_hardest=True,
    ),
    Score(
        name="correctness",
        summary="share of the epochs whose record is correct",
        formula="mean over t of [argmax z_t = y]",
        source="Swayamdipta et al. 2020, arXiv:2009.10795",
        range="0..1",
        sign=-1,
        use="First-learned, learned and forgetting in one number, with fewer ties than each.",
        accumulate=partial(accumulators.Mean, quantity=accumulators.correctness),
    ),
    Score(
        name="aum",
        summary="mean margin",
        formula="mean over t of (z_y - max_(k != y) z_k)",
        source="Pleiss et al. 2020, arXiv:2001.10528",
        range="real",
        sign=-1,
        use="Label errors; keeps telling easy examples apart when their loss is zero.",
        accumulate=partial(accumulators.Mean, quantity=attrgetter("margin")),
    ),
    Score(
        name="el2n",
        summary="mean over all epochs of |softmax - one-hot|; el2n_1_10 over the epochs 1 to 10",
        formula="mean over t of |softmax(z_t) - onehot(y)|",
        source="Paul et al. 2021, arXiv:2107.07075",
        range="0..sqrt 2",
        sign=+1,
        use="Pruning; its authors take the first ten epochs or so, and a mean over seeds.",
        accumulate=partial(accumulators.Mean, quantity=attrgetter("el2n")),
    ),
    Score(
        name="confidence",
        summary="mean probability of the given label",
        formula="mean over t of p_t",
        source="Swayamdipta et al. 2020, arXiv:2009.10795",
        range="0..1",
        sign=-1,
        use="One axis of the data map; bounded, so no single epoch weighs much.",
        accumulate=partial(accumulators.Mean, quantity=attrgetter("probability")),
    ),
    Score(
        name="variability",
        summary="standard deviation of that probability",
        formula="standard deviation over t of p_t (ddof 0)",
        source="Swayamdipta et al. 2020, arXiv:2009.10795",
        range="0..0.5",
        sign=+1,
        use="The other axis: ambiguous examples. Never-learned ones vary as little as easy ones.",
        accumulate=partial(accumulators.Deviation, quantity=attrgetter("probability")),
    ),
    Score(
        name="aleatoric",
        summary="Data-IQ's aleatoric uncertainty of that probability",
        formula="mean over t of p_t (1 - p_t)",
        source="Seedat et al. 2022, arXiv:2210.13043",
        range="0..0.25",
        sign=+1,
        use="Ambiguous examples, with less of the training's course in it than variability has.",
        accumulate=partial(
            accumulators.Mean, quantity=lambda records: records.probability * (1 - records.probability)
        ),
    ),
    Score(
        name="mean_loss",
        summary="mean cross-entropy, nats",
        formula="mean over t of L_t",
        source="Arpit et al. 2017, arXiv:1706.05394",
        range="0..",
        sign=+1,
        use="A good default where ties hurt; one very bad epoch weighs much.",
        accumulate=partial(accumulators.Mean, quantity=attrgetter("loss")),
    ),
    Score(
        name="last_loss",
        summary="cross-entropy at the last epoch, nats",
        formula="L_T",
        source="Han et al. 2018, arXiv:1804.06872",
        range="0..",
        sign=+1,
        use="What a single checkpoint would tell; useless once everything is fitted.",
        accumulate=partial(accumulators.Last, quantity=attrgetter("loss")),
    ),
    Score(
        name="loss_rank",
        summary="mean over the epochs of the share of examples whose loss is smaller",
        formula="mean over t of (#{j : L_t(j) < L_t} + #{j : L_t(j) = L_t} / 2) / N",
        source="Huang et al. 2019 (O2U-Net, ICCV), who subtract each epoch's mean loss",
        range="0..1",
        sign=+1,
        use="Every epoch weighs the same, however small its losses.",
        accumulate=partial(accumulators.Mean, quantity=accumulators.loss_rank),
    ),
    Score(
        name="grand",
        summary="L2 norm of the gradient of the example's loss by all weights",
        formula="|dL / dw|",
        source="Paul et al. 2021, arXiv:2107.07075",
        range="0..",
        sign=+1,
        use="Pruning, early in training (--epoch, of a run with --checkpoint-every), mean over seeds.",
        probe="hardness.probes.grand:grand",
    ),
    Score(
        name="grand_last_layer",
        summary="the same, by the weights and bias of the last linear layer alone, in closed form",
        formula="|softmax(z) - onehot(y)| sqrt(|h|^2 + 1), h the layer's input",
        source="after Katharopoulos and Fleuret 2018, arXiv:1803.00942",
        range="0..",
        sign=+1,
        use="GraNd at the price of one forward pass; look at their rank correlation first.",
        probe="hardness.probes.grand:grand_last_layer",
    ),
    Score(
        name="prediction_depth",
        summary="first layer from which every k-nearest-neighbour probe predicts what the network does",
        formula="min {l : knn_m(x) = argmax z for all m >= l}, layer 0 the input; k = 30",
        source="Baldock et al. 2021, arXiv:2106.09647",
        range="0..layers + 1",
        sign=+1,
        use="Where in the network an example is decided, whether rightly or not.",
        probe="hardness.probes.prediction_depth:prediction_depth",
    ),
    Score(
        name="prototypicality",
        summary="distance to the mean of the given class in the space before the last layer",
        formula="|h - mean of h over the examples of class y|",
        source="Sorscher et al. 2022, arXiv:2206.14486, with the given labels for clusters",
        range="0..",
        sign=+1,
        use="Outliers of a class, whether or not the network is right about them.",
        probe="hardness.probes.prototypicality:prototypicality",
    ),
    Score(
        name="self_confidence",
        summary="probability of the given label by a network that was not trained on the example",
        formula="p of a network trained on the other folds",
        source="Northcutt et al. 2021, arXiv:1911.00068",
        range="0..1",
        sign=-1,
        use="Label errors, where five more trainings can be paid for; memorizing can't hide them.",
        probe="hardness.probes.self_confidence:self_confidence",
    ),
)
FREE = tuple(name for name, score in SCORES.items() if score.accumulate)


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
    if needs_network := [name for name in names if SCORES[name].probe]:
        sentence = "{score} cannot be computed from records: it needs the network."
        hint = "Run `hardness score --with {score}`, and read scores.parquet."
        raise UserError("score-needs-network", sentence, hint, score=needs_network[0])
    computed: dict[str, accumulators.Accumulator] = {}
    for epoch, records in read_epochs(Path(run), fingerprint, last_epoch):
        if epoch == 1:
            computed = {name: SCORES[name].accumulate(len(records.loss)) for name in names}
        for accumulator in computed.values():
            accumulator.add(epoch, records)
    columns = {name: accumulator.result() for name, accumulator in computed.items()}
    return pd.DataFrame({"example_id": np.arange(len(records.loss)), **columns})

"""The registry of scores: one number per example.

Free scores are computed from the records alone, in one pass over the epochs
(``hardness.dynamics.accumulators``). Probes need the network (``hardness score --with``). To add a score,
write it and register it: the command line, rankings, splits and plots read this registry.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from hardness.dynamics.store import Records, read_epochs
from hardness.errors import UserError
from hardness.registry import Entry, Registry


class Accumulator(Protocol):
    def add(self, epoch: int, records: Records) -> None: ...

    def result(self) -> pd.Series:
        """(N,): null for an example without a value."""
        ...


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
    needs: str = "logits"
    """What must have been recorded: the "loss", the "prediction" or the "logits"."""
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


NOT_SCORES = ("example_id", "num_records")
"""The columns of a table of scores that are not scores."""
FREE = tuple(name for name, score in SCORES.items() if not score.needs_network)


def scores(
    run: str | Path,
    fingerprint: str | None = None,
    last_epoch: int | None = None,
    names: Iterable[str] | None = None,
    also: Iterable[str] = (),
) -> pd.DataFrame:
    """The free scores of a run, from its records alone: one row per example, ordered by example id.

    fingerprint: the data set that the records must belong to; last_epoch: ignore later epochs; names: which
    scores, by default all that the records are enough for, and those in ``also``, as el2n_1_10. (Those that
    need the network are computed by ``hardness score --with``.)
    Scores are over the epochs that have a record of the example; one without any is null in every column
    except ``example_id``. If some examples lack records of some epochs (``Recorder(..., missing="null")``),
    the column ``num_records`` has the number of epochs that have one.
    Raises ``UserError`` for a score that needs more than was recorded (``Recorder.update_losses``).
    """
    asked = [*(names or ()), *also]
    if needs_network := [name for name in asked if SCORES[name].needs_network]:
        sentence = "{score} cannot be computed from records: it needs the network."
        hint = "Run `hardness score --with {score}`, and read scores.parquet."
        raise UserError("score-needs-network", sentence, hint, score=needs_network[0])
    return score_table(read_epochs(Path(run), fingerprint, last_epoch), asked, others=names is None)


def score_table(
    epochs: Iterable[tuple[int, Records]], asked: Sequence[str] = (), others: bool = True
) -> pd.DataFrame:
    """The scores ``asked`` for, and all ``others`` that the records are enough for, as of ``scores``.

    epochs: (epoch, records) in order, from epoch 1.
    """
    computed: dict[str, Accumulator] = {}
    for epoch, records in epochs:
        if epoch == 1:
            for name in dict.fromkeys([*(FREE if others else ()), *asked]):
                if SCORES[name].needs in records.known:
                    computed[name] = SCORES[name].accumulator(len(records.loss))
                elif name in asked:
                    more = " and predictions" if "prediction" in records.known else ""
                    sentence = "{score} cannot be computed: only losses{more} were recorded."
                    hint = "Choose another score."
                    raise UserError("score-not-recorded", sentence, hint, score=name, more=more)
            counts = np.zeros(len(records.loss), np.int32)
        counts += records.is_readable
        for accumulator in computed.values():
            accumulator.add(epoch, records)
    columns = {name: accumulator.result() for name, accumulator in computed.items()}
    if ((counts > 0) & (counts < epoch)).any():
        columns = {"num_records": counts, **columns}
    return pd.DataFrame({"example_id": np.arange(len(counts)), **columns})

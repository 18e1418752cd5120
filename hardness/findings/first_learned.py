"""When are examples first learned?"""

from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from hardness.findings.words import Words
from hardness.statistics import Estimate

_TIED = 0.5


@dataclass(frozen=True)
class FirstLearned:
    """Fractions of the readable examples."""

    in_epoch_1: Estimate
    never: Estimate

    @classmethod
    def of(cls, first_learned: Collection[pd.Series]) -> "FirstLearned":
        """first_learned: of each seed, (N,) epochs of the readable examples, null where never learned."""
        return cls(
            Estimate.of([(epochs.fillna(0) == 1).mean() for epochs in first_learned]),
            Estimate.of([epochs.isna().mean() for epochs in first_learned]),
        )

    def estimates(self) -> dict[str, Estimate]:
        return {"learned in epoch 1": self.in_epoch_1, "never learned": self.never}

    def words(self, record_mode: str) -> Words:
        cautions = []
        if self.in_epoch_1.mean > _TIED:
            cautions.append(
                "Most examples tie at first-learned epoch 1, so their mean loss decides which of them are "
                "the easiest. A smaller learning rate spreads them over more epochs."
            )
        if record_mode == "train":
            cautions.append(
                "Records are from the training pass: the last examples of an epoch are evaluated with a "
                "better model than the first ones."
            )
        found = f"in epoch 1: {self.in_epoch_1}; never learned: {self.never}"
        return Words(f"Fraction of examples first learned {found}.", [], {"epoch": 1}, cautions)

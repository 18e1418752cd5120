"""Sentences follow the numbers, whatever their sign, and contain no other numbers."""

import pandas as pd
import pytest

from hardness.findings.generalization import Generalization
from hardness.findings.label_errors import LabelErrors
from hardness.findings.memorization import Memorization
from tests.curves import noisy, retraining, three_optimizers, with_controls
from tests.words import is_told, leaves, numbers_in

FINDINGS = [
    Generalization.of(retraining(0.95, 0.4)),
    Generalization.of(with_controls(0.8, [0.6, 0.6, 0.7, 0.9])),
    Memorization.of(three_optimizers()),
    Memorization.of(noisy({("sgd", 0): ([0.1, 0.2], [0.1, 0.6])}, noise=1.0)),
    LabelErrors.of(
        pd.DataFrame(
            [("aum", 0.71, 0.72, 11, 40), ("el2n", 0.7, 0.69, 11, 40)] * 2,
            columns=["score", "auroc", "average_precision", "num_corrupt", "num_examples"],
        )
    ),
]


@pytest.mark.parametrize("found", FINDINGS)
def test_every_number_in_the_words_is_an_estimate_or_in_their_numbers(found):
    words = found.words()
    known = leaves([*map(vars, found.estimates().values()), words.numbers])
    shown = numbers_in(" ".join([words.headline, *words.sentences, *words.cautions]))
    assert shown
    assert [each for each in shown if not is_told(each, known)] == []
    assert not is_told("0.1234", known)

from dataclasses import replace

import pandas as pd
import pytest

from hardness.findings.first_learned import FirstLearned
from hardness.statistics import Estimate


def test_fractions_by_hand():
    seeds = [pd.Series(epochs, dtype="Int32") for epochs in ([1, 1, 3, None], [1, 2, None, None])]
    found = FirstLearned.of(seeds)
    assert (found.in_epoch_1.mean, found.in_epoch_1.num_seeds) == (pytest.approx(0.375), 2)
    assert found.never.mean == pytest.approx(0.375)
    assert list(found.estimates()) == ["learned in epoch 1", "never learned"]


def test_cautions_about_first_learned_epochs():
    found = FirstLearned(in_epoch_1=Estimate.of([0.8]), never=Estimate.of([0.1]))
    words = found.words("eval")
    assert "0.800" in words.headline
    assert "0.100" in words.headline
    assert [caution.split(" at ")[0] for caution in words.cautions] == ["Most examples tie"]
    spread = replace(found, in_epoch_1=Estimate.of([0.2]))
    assert spread.words("eval").cautions == []
    assert len(spread.words("train").cautions) == 1

import numpy as np
import pandas as pd
import pytest

from hardness.dynamics.pool import pool, ranks
from hardness.dynamics.scores import SCORES


def table(first_learned, loss) -> pd.DataFrame:
    """The other scores are the loss, or its negative where smaller is harder."""
    columns = {name: score.sign * np.array(loss, float) for name, score in SCORES.items()}
    columns["first_learned_epoch"] = pd.array(first_learned, "Int32")
    return pd.DataFrame({"example_id": np.arange(len(loss)), **columns})


ONE = table([1, 2, None, None, 1], [0.1, 0.2, 0.9, np.nan, 0.3])
TWO = table([3, 2, 1, None, None], [0.3, 0.2, 0.1, np.nan, 0.4])


def test_ranks_run_from_easy_to_hard_with_the_never_learned_last():
    assert ranks(ONE, "first_learned_epoch").tolist()[:3] == [1.5, 3, 4]
    assert np.isnan(ranks(ONE, "aum")[3])
    assert ranks(ONE, "aum").tolist()[:3] == ranks(ONE, "mean_loss").tolist()[:3] == [1, 2, 4]


def test_a_pool_worked_by_hand():
    found = pool([ONE, TWO])
    assert found["example_id"].tolist() == [0, 1, 2, 3, 4]
    assert found["first_learned_epoch_mean"].tolist()[:3] == [2, 2, 1]
    assert found["first_learned_epoch_count"].tolist() == [2, 2, 1, 0, 1]
    assert found["first_learned_epoch_std"].tolist()[:2] == pytest.approx([np.sqrt(2), 0])
    assert found["first_learned_epoch_std"].isna().tolist() == [False, False, True, True, True]
    assert found["first_learned_epoch_rank"].tolist()[:3] == [2.25, 2.5, 2.5]
    assert found["mean_loss_mean"].tolist()[:3] == pytest.approx([0.2, 0.2, 0.5])
    assert found["mean_loss_rank"].tolist()[:3] == [2, 2, 2.5]
    assert found.loc[3].drop(["example_id", *(n for n in found if n.endswith("_count"))]).isna().all()
    assert "aum_count" not in found

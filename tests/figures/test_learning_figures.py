"""Forgetting, and learning by class: counted by hand."""

import numpy as np
import pandas as pd
import pytest

from hardness.figures import forgetting, learned_by_class


def integers(*values) -> pd.Series:
    return pd.Series(pd.array(values, dtype="Int32"))


def test_forgetting_by_hand():
    scores = pd.DataFrame(
        {
            "first_learned_epoch": integers(1, 1, 1, 4, None, None),
            "forgetting_events": integers(0, 1, 10, 25, None, None),
            "mean_loss": [0.5] * 5 + [None],
        }
    )
    again = scores.assign(first_learned_epoch=scores["first_learned_epoch"].replace(4, 3))
    table = forgetting.prepare({"0": scores, "1": again}).set_index(["against", "x"])
    shares = table.loc["forgetting_events"]
    assert shares.index.tolist() == [*map(str, range(10)), "10+", "never learned"]
    assert shares["mean"].tolist() == [0.2, 0.2, *[0] * 8, 0.4, 0.2]
    means = table.loc["first_learned_epoch"]
    assert means.index.tolist() == [1, 3, 4]
    assert means["mean"].tolist() == pytest.approx([11 / 3, 25, 25])
    # The last two epochs are of one seed each.
    assert means["num_seeds"].tolist() == [2, 1, 1]
    assert means["low"].isna().tolist() == [False, True, True]


def test_nothing_was_learned():
    none = pd.DataFrame({"first_learned_epoch": integers(None), "forgetting_events": integers(None)})
    table = forgetting.prepare({"0": none.assign(mean_loss=1.0)})
    assert table.iloc[-1]["x"] == "never learned"
    assert table.iloc[-1]["mean"] == 1
    forgetting.draw(table, "title").draw_without_rendering()


def test_classes_by_hand():
    """Of class 0 half is learned in epoch 2; class 1 has no example; of class 2 all are, one seed earlier."""
    labels = np.array([0, 0, 2, 2], np.uint8)
    first = {"0": integers(2, None, 2, 1), "1": integers(None, 2, 1, 1)}
    table = learned_by_class.prepare(first, {"0": labels, "1": labels}, ["c", "b", "a"], 3)
    assert table["class_name"].tolist() == ["c"] * 3 + ["a"] * 3
    assert table["epoch"].tolist() == [1, 2, 3] * 2
    assert table["cumulative_share"].tolist() == [0, 0.5, 0.5, 0.75, 1, 1]
    assert table["place"].tolist() == [2] * 3 + [1] * 3
    assert table["num_examples"].eq(4).all()


def test_a_class_that_one_seed_lacks():
    first = {"0": integers(1, 1), "1": integers(1, 2)}
    labels = {"0": np.array([0, 0]), "1": np.array([0, 1])}
    table = learned_by_class.prepare(first, labels, ["a", "b"], 2).set_index(["class_name", "epoch"])
    assert table["cumulative_share"].tolist() == [1, 1, 0, 1]
    assert table["num_examples"].tolist() == [3, 3, 1, 1]


def test_a_thousand_classes_of_one_name():
    first = {"0": pd.Series(np.repeat(np.arange(1, 11), 200), dtype="Int32")}
    labels = {"0": np.arange(2000) // 2}
    table = learned_by_class.prepare(first, labels, ["same"] * 1000, 10)
    assert sorted(table["place"].unique()) == list(range(1, 1001))
    (axes,) = learned_by_class.draw(table, "title").axes
    assert len(axes.lines) == 1 + 3 + 3

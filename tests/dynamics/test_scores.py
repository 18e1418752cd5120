"""Every score on five examples worked out by hand."""

import itertools
import math
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardness.dynamics import store
from hardness.dynamics.accumulators import loss_ranks
from hardness.dynamics.scores import FREE, SCORES, scores
from tests.conftest import refused

# Correct (1) or wrong (0) by epoch: always, late, forgotten twice, never, forgotten at the end.
CORRECT = np.array([[1, 1, 1, 1, 1], [0, 0, 0, 1, 1], [1, 0, 1, 0, 1], [0, 0, 0, 0, 0], [0, 1, 1, 1, 0]])
PROBABILITY = np.array([[0.5] * 5, [0.1, 0.2, 0.3, 0.4, 0.5], [1, 0.25, 1, 0.25, 1], [0.1] * 5, [0.2] * 5])
EXPECTED = {
    "first_learned_epoch": [1, 4, 1, None, 2],
    "learned_epoch": [1, 4, 5, None, None],
    "forgetting_events": [0, 0, 2, None, 1],
    "aum": [1.0, 2.0, 3.0, 4.0, 5.0],
    "el2n": [0.5, 0.5, 0.5, 0.5, 0.5],
    "confidence": [0.5, 0.3, 0.7, 0.1, 0.2],
    "variability": [0.0, math.sqrt(0.02), math.sqrt(0.135), 0.0, 0.0],
    "correctness": [1.0, 0.4, 0.6, 0.0, 0.6],
    "aleatoric": [0.25, (0.09 + 0.16 + 0.21 + 0.24 + 0.25) / 5, 2 * 0.1875 / 5, 0.09, 0.16],
    "last_loss": [math.log(2), math.log(2), 0.0, math.log(10), math.log(5)],
    # In tenths of five: of .5 .1 1 .1 .2, the third's loss is least, then the first's, then the fifth's; the
    # two of .1 share the end. The other epochs: .5 .2 .25 .1 .2; .5 .3 1 .1 .2; .5 .4 .25 .1 .2;
    # .5 .5 1 .1 .2.
    "loss_rank": [
        (0.3 + 0.1 + 0.3 + 0.1 + 0.4) / 5,
        (0.8 + 0.6 + 0.5 + 0.3 + 0.4) / 5,
        (0.1 + 0.3 + 0.1 + 0.5 + 0.1) / 5,
        (0.8 + 0.9 + 0.9 + 0.9 + 0.9) / 5,
        (0.5 + 0.6 + 0.7 + 0.7 + 0.7) / 5,
    ],
    "mean_loss": [
        math.log(2),
        -sum(math.log(p) for p in (0.1, 0.2, 0.3, 0.4, 0.5)) / 5,
        2 * math.log(4) / 5,
        math.log(10),
        math.log(5),
    ],
}


def write(run, correct, probability=None, unreadable=()):
    num_examples, num_epochs = correct.shape
    probability = np.full(correct.shape, 0.5) if probability is None else probability
    is_null = np.isin(np.arange(num_examples), unreadable)
    for epoch in range(num_epochs):
        # AUM: the margin is example + 1 on average; EL2N: quarters from 0 on, so 0.5.
        columns = {
            "given_label": np.zeros(num_examples, int),
            "prediction": (1 - correct[:, epoch]).astype(np.int64),
            "loss": -np.log(probability[:, epoch]),
            "margin": np.arange(1.0, num_examples + 1) + epoch - (num_epochs - 1) / 2,
            "el2n": np.full(num_examples, epoch / 4),
        }
        table = {"example_id": pa.array(np.arange(num_examples))}
        table |= {name: pa.array(values, mask=is_null) for name, values in columns.items()}
        store.write_part(run, epoch + 1, pa.table(table).cast(store.SCHEMA), "abc")


def test_five_examples_worked_by_hand(tmp_path):
    write(tmp_path, CORRECT, PROBABILITY)
    table = scores(tmp_path)
    assert list(table.columns) == ["example_id", *FREE]
    assert EXPECTED.keys() == set(FREE)
    for name, expected in EXPECTED.items():
        found = [None if pd.isna(value) else float(value) for value in table[name]]
        assert found == pytest.approx(expected, abs=1e-6), name


def test_el2n_of_any_window_of_epochs(tmp_path):
    write(tmp_path, CORRECT, PROBABILITY)
    table = scores(tmp_path, names=["el2n_1_2", "el2n_3_5", "el2n_5_5"])
    assert table.loc[0].tolist() == [0, 0.125, 0.75, 1.0]
    with refused("window-not-recorded", first=4, last=6, found=2):
        scores(tmp_path, names=["el2n_4_6"])
    for name in ("el2n_0_2", "el2n_3_1", "el2n_1"):
        with refused("unknown-name", name=name):
            SCORES[name]


def test_a_score_that_needs_the_network_is_not_read_from_records(tmp_path):
    with refused("score-needs-network", score="grand"):
        scores(tmp_path, names=["aum", "grand"])


@given(st.lists(st.floats(0, 1e5, width=32) | st.just(math.nan), min_size=1, max_size=20))
def test_loss_ranks_are_those_of_the_losses_as_they_are_recorded(losses):
    losses = np.array(losses, np.float32)
    records = store.Records(*[np.zeros(0)] * 2, losses, *[np.zeros(0)] * 3)
    with np.errstate(over="ignore"):
        rounded = pd.Series(losses.astype(np.float16).astype(np.float64))
    expected = (rounded.rank() - 0.5) / max(rounded.notna().sum(), 1)
    np.testing.assert_allclose(loss_ranks(records), expected)


DEGENERATE = {
    "one epoch, all right": np.ones((4, 1), int),
    "one epoch, all wrong": np.zeros((4, 1), int),
    "all never learned": np.zeros((4, 3), int),
    "all learned at once": np.ones((4, 3), int),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_scores_of_degenerate_runs_are_numbers_or_never_learned(tmp_path, name):
    """Also where one image could not be read."""
    correct = DEGENERATE[name]
    write(tmp_path, correct, unreadable=[2])
    table = scores(tmp_path).drop(index=2)
    for column in FREE:
        is_null = table[column].isna()
        assert is_null.all() if SCORES[column].null_is_hardest and not correct.any() else not is_null.any()
    assert table["loss_rank"].tolist() == [0.5] * 3
    assert table["variability"].tolist() == [0.0] * 3
    assert table["forgetting_events"].fillna(0).tolist() == [0] * 3


def test_pandas_and_duckdb_find_the_same_first_learned_epochs(tmp_path):
    write(tmp_path, CORRECT, PROBABILITY)
    records = pd.read_parquet(tmp_path / "dynamics").astype({"epoch": int})
    right = records[records["prediction"] == records["given_label"]]
    by_pandas = right.groupby("example_id")["epoch"].min().reindex(range(5))
    found = scores(tmp_path)["first_learned_epoch"]
    assert found.fillna(0).tolist() == by_pandas.fillna(0).tolist()
    by_duckdb = duckdb.sql(
        f"""select example_id, min(epoch) filter (prediction = given_label) as first
        from read_parquet('{tmp_path}/dynamics/*/*.parquet', hive_partitioning = true)
        group by example_id order by example_id"""
    ).df()["first"]
    assert by_duckdb.fillna(0).tolist() == found.fillna(0).tolist()


@settings(max_examples=25)
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=6))
def test_learning_scores_against_their_definitions(tmp_path_factory, rows):
    run = tmp_path_factory.mktemp("run")
    write(run, np.array(rows, dtype=int))
    table = scores(run)
    for row, (_, found) in zip(rows, table.iterrows(), strict=True):
        right = [epoch for epoch, correct in enumerate(row, start=1) if correct]
        assert (right[0] if right else None) == (
            None if pd.isna(found["first_learned_epoch"]) else found["first_learned_epoch"]
        )
        learned = next((e for e in range(1, 5) if all(row[e - 1 :])), None)
        assert learned == (None if pd.isna(found["learned_epoch"]) else found["learned_epoch"])
        forgotten = sum(a and not b for a, b in itertools.pairwise(row)) if right else None
        assert forgotten == (None if pd.isna(found["forgetting_events"]) else found["forgetting_events"])


def test_an_unreadable_example_has_no_score_and_a_never_learned_one_does(tmp_path):
    write(tmp_path, CORRECT, PROBABILITY, unreadable=[0])
    table = scores(tmp_path).set_index("example_id")
    assert table.loc[0].isna().all()
    assert pd.isna(table.loc[3, "first_learned_epoch"])
    assert not pd.isna(table.loc[3, "mean_loss"])


def test_every_score_says_what_it_is():
    for name, score in SCORES.items():
        assert score.name == name
        assert score.sign in (+1, -1)
        assert score.summary
        assert score.source
        assert score.range
        assert score.formula
        assert score.use
    with refused("unknown-name", near="forgetting_events"):
        SCORES["forgetting"]


def test_the_page_of_the_scores_is_of_this_registry():
    """``python -m tests.benchmarks.scores`` writes it, with prices."""
    page = (Path(__file__).parents[2] / "reports/scores/README.md").read_text()
    assert [line[4:] for line in page.splitlines() if line.startswith("### ")] == list(SCORES)
    for score in SCORES.values():
        assert f"{score.summary} `{score.formula}`" in page
        assert score.source in page
        assert score.use in page

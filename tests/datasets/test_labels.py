import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardness import seeding
from hardness.datasets.labels import noisy_labels, read_labels
from tests.conftest import refused

CLEAN = torch.arange(20_000) % 10


def test_the_noise_rate_is_that_of_uniform_redraws():
    noisy = noisy_labels(CLEAN, 0.5, seed=0)
    assert (noisy != CLEAN).double().mean().item() == pytest.approx(0.5 * 0.9, abs=0.015)
    assert torch.bincount(noisy).min() > 1800


@settings(max_examples=40)
@given(low=st.floats(0, 1), high=st.floats(0, 1), seed=st.integers(0, 99))
def test_labels_redrawn_at_a_low_level_are_the_same_at_a_higher_level(low, high, seed):
    low, high = sorted((low, high))
    less, more = (noisy_labels(CLEAN[:500], level, seed) for level in (low, high))
    changed = less != CLEAN[:500]
    assert torch.equal(less[changed], more[changed])


def test_noise_0_noise_1_and_seeds():
    assert torch.equal(noisy_labels(CLEAN, 0.0, 3), CLEAN)
    assert (noisy_labels(CLEAN, 1.0, 3) == CLEAN).double().mean() < 0.13
    assert not torch.equal(noisy_labels(CLEAN, 1.0, 3), noisy_labels(CLEAN, 1.0, 4))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_labels_are_read_in_any_order_and_other_columns_ignored(tmp_path, suffix):
    table = pd.DataFrame({"example_id": [2, 0, 1], "label": [1, 0, 2], "who": ["x", "y", "z"]})
    path = tmp_path / f"labels.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    assert read_labels(path, 3, ["cat", "dog", "eel"]).tolist() == [0, 2, 1]


ROW = {"column": "label", "row": 1}


@pytest.mark.parametrize(
    ("ids", "labels", "code", "values"),
    [
        (
            [0, 1, 3],
            [0, 0, 0],
            "value-out-of-range",
            {"column": "example_id", "value": 3, "row": 2, "last": 2},
        ),
        ([0, 1], [0, 0], "wrong-example-ids", {"example": 2, "count": 0, "last": 2}),
        ([0, 1, 1, 2], [0, 0, 0, 0], "wrong-example-ids", {"example": 1, "count": 2}),
        ([0, 1, 2], [0, 3, 0], "value-out-of-range", {"value": 3, "last": 2, **ROW}),
        ([0, 1, 2], [0, -1, 0], "value-out-of-range", {"value": -1, **ROW}),
        ([0, 1, 2], [0, None, 0], "empty-cell", ROW),
        ([0, 1, 2], [0, 0.5, 0], "value-out-of-range", {"value": 0.5, **ROW}),
        ([0, 1.5, 2], [0, 0, 0], "value-out-of-range", {"column": "example_id", "value": 1.5, "row": 1}),
        (["x", "y", "z"], [0, 0, 0], "wrong-column-type", {"column": "example_id", "type": "string"}),
        ([0, 1, 2], ["dog", "cow", "cat"], "unknown-class", {"label": "cow", "row": 1}),
        ([0, 1, 2], [True, False, True], "unknown-class", {"label": "True", "row": 0}),
    ],
)
def test_invalid_label_files_are_refused(tmp_path, ids, labels, code, values):
    path = tmp_path / "labels.csv"
    pd.DataFrame({"example_id": ids, "label": labels}).to_csv(path, index=False)
    with refused(code, path=str(path), **values):
        read_labels(path, 3, ["cat", "dog", "eel"])


def test_a_missing_column_or_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("id,label\n0,0\n")
    with refused("no-such-column", path=str(path), column="example_id", columns="id, label"):
        read_labels(path, 1, ["cat", "dog"])
    path = tmp_path / "labels.parquet"
    path.write_text("id,label\n0,0\n")
    with refused("unreadable-labels", path=str(path)):
        read_labels(path, 1, ["cat", "dog"])


def test_noise_is_drawn_over_the_classes_that_occur():
    clean = 2 * (torch.arange(2000) % 3) + 1
    noisy = noisy_labels(clean, 1.0, seed=0)
    assert torch.bincount(noisy, minlength=6).gt(0).tolist() == [False, True, False, True, False, True]
    # Where all occur, the draws are those of all classes.
    generator = seeding.generator(4, "label noise")
    redrawn, expected = generator.random(len(CLEAN)) < 0.5, generator.integers(10, size=len(CLEAN))
    assert noisy_labels(CLEAN, 0.5, 4).tolist() == np.where(redrawn, expected, CLEAN).tolist()


def test_numbers_are_indices_not_names(tmp_path, capsys):
    pd.DataFrame({"example_id": [0, 1], "label": [1, 0]}).to_csv(tmp_path / "labels.csv", index=False)
    assert read_labels(tmp_path / "labels.csv", 2, ["1", "2"]).tolist() == [1, 0]
    assert "class indices 0..1" in capsys.readouterr().err
    read_labels(tmp_path / "labels.csv", 2, ["0", "1"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["eel", "cat", "dog"], [2, 0, 1]),
        ([2.0, 0.0, 1.0], [2, 0, 1]),
        (pd.Categorical(["eel", "cat", "dog"]), [2, 0, 1]),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_labels_of_other_types_are_decoded(tmp_path, labels, expected, suffix):
    table, path = pd.DataFrame({"example_id": [0, 1, 2], "label": labels}), tmp_path / f"labels.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    assert read_labels(path, 3, ["cat", "dog", "eel"]).tolist() == expected

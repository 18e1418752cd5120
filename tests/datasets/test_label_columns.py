import pandas as pd
import pyarrow as pa
import pytest

from hardness.datasets.label_columns import as_labels
from tests.conftest import refused


@pytest.mark.parametrize(
    ("column", "labels"),
    [
        (pa.array([2, 0], pa.uint8()), [2, 0]),
        (pa.array([2.0, 0.0]), [2, 0]),
        (pa.array(["b", "a"]), ["b", "a"]),
        (pa.array(["b", "a"], pa.large_string()), ["b", "a"]),
        (pa.array([True, False]), ["True", "False"]),
        (pa.array(pd.Categorical(["b", "a", "b"])), ["b", "a", "b"]),
        (pa.array([3, 1, 3]).dictionary_encode(), [3, 1, 3]),
        (pa.chunked_array([[1], [2]]), [1, 2]),
        (pa.array([], pa.int64()), []),
    ],
)
def test_labels_of_every_type(column, labels):
    assert as_labels(column, 5, "a.parquet", "label") == labels


@pytest.mark.parametrize(
    ("column", "code", "values"),
    [
        (pa.array([0, None]), "empty-cell", {"row": 1}),
        (pa.array([0.0, float("nan")]), "empty-cell", {"row": 1}),
        (pa.array(["a", ""]), "empty-cell", {"row": 1}),
        (pa.array(pd.Categorical(["a", None])), "empty-cell", {"row": 1}),
        (pa.array([0.0, float("inf")]), "value-out-of-range", {"row": 1, "value": float("inf")}),
        (pa.array([0.0, 0.5]), "value-out-of-range", {"row": 1, "value": 0.5, "last": 4}),
        (pa.array([0, 5]), "value-out-of-range", {"row": 1, "value": 5, "last": 4}),
        (pa.array([0, -1]), "value-out-of-range", {"row": 1, "value": -1}),
        (pa.array([b"a"]), "wrong-column-type", {"type": "binary"}),
        (pa.array([[1]]), "wrong-column-type", {"type": "list<item: int64>"}),
        (pa.array([None]), "wrong-column-type", {"type": "null"}),
    ],
)
def test_invalid_labels_are_refused_with_their_row(column, code, values):
    with refused(code, path="a.parquet", column="label", **values):
        as_labels(column, 5, "a.parquet", "label")

import pandas as pd
import pyarrow as pa
import pytest

from hardness.datasets.label_columns import LabelError, as_labels


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
    assert as_labels(column, 5) == labels


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (pa.array([0, None]), "no label in row 1"),
        (pa.array([0.0, float("nan")]), "no label in row 1"),
        (pa.array([0.0, float("inf")]), "inf in row 1"),
        (pa.array([0.0, 0.5]), "0.5 in row 1"),
        (pa.array(["a", ""]), "no label in row 1"),
        (pa.array(pd.Categorical(["a", None])), "no label in row 1"),
        (pa.array([0, 5]), r"5 in row 1, which is not of 0\.\.4"),
        (pa.array([0, -1]), "-1 in row 1"),
        (pa.array([b"a"]), "values of type binary"),
        (pa.array([[1]]), "values of type list"),
        (pa.array([None]), "values of type null"),
    ],
)
def test_what_is_no_label_is_refused_by_row(column, told):
    with pytest.raises(LabelError, match=told):
        as_labels(column, 5)

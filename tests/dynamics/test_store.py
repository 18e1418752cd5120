import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardness.dynamics import store
from tests.benchmarks.recorder import bytes_per_record, generate
from tests.conftest import refused


def table(ids) -> pa.Table:
    ids = np.asarray(ids)
    columns = {
        "example_id": ids,
        "given_label": ids % 3,
        "prediction": ids % 2,
        "loss": abs(ids) * 0.5,
        "margin": ids * 1.0,
        "el2n": abs(ids) * 0.1,
    }
    return pa.table(columns).cast(store.SCHEMA)


def test_parts_of_several_ranks_are_one_epoch(tmp_path):
    store.write_part(tmp_path, 1, table([0, 3]), "abc", part=0, num_parts=2)
    store.write_part(tmp_path, 1, table([1, 2]), "abc", part=1, num_parts=2)
    records = store.read_epoch(tmp_path, 1, "abc")
    assert records.loss.tolist() == [0, 0.5, 1, 1.5]
    assert records.is_correct.tolist() == [True, True, False, False]
    assert records.probability == pytest.approx(np.exp([0, -0.5, -1, -1.5]))


def test_epochs_are_ordered_as_numbers(tmp_path):
    for epoch in (2, 10, 1):
        store.write_part(tmp_path, epoch, table([0]), "abc")
    (tmp_path / "dynamics" / "epoch=3").mkdir()
    assert store.recorded_epochs(tmp_path) == [1, 2, 10]
    store.drop_epochs_after(tmp_path, 1)
    assert store.recorded_epochs(tmp_path) == [1]


def test_pandas_and_duckdb_read_the_same_table(tmp_path):
    for epoch in (1, 2, 10):
        whole = table(range(7))
        # The second image could not be read.
        nulls = [
            pa.array([None if i == 1 else v for i, v in enumerate(c.to_pylist())], c.type) for c in whole
        ]
        whole = pa.table([whole["example_id"], *nulls[1:]], schema=store.SCHEMA)
        for part in (0, 1):
            store.write_part(tmp_path, epoch, whole[part * 4 : part * 4 + 4], "abc", part=part, num_parts=2)
    by_pandas = pd.read_parquet(tmp_path / "dynamics").astype({"epoch": int})
    by_pandas = by_pandas.sort_values(["epoch", "example_id"], ignore_index=True)
    glob = f"{tmp_path}/dynamics/*/*.parquet"
    by_duckdb = duckdb.sql(
        f"select * from read_parquet('{glob}', hive_partitioning = true) order by epoch, example_id"
    ).df()
    assert len(by_pandas) == 21
    assert by_pandas["loss"].isna().sum() == by_pandas["given_label"].isna().sum() == 3
    for name in ("given_label", "prediction"):
        by_duckdb[name] = by_duckdb[name].astype(float)
    pd.testing.assert_frame_equal(by_pandas, by_duckdb, check_dtype=False)
    assert "epoch" not in pq.ParquetFile(tmp_path / "dynamics/epoch=1/part-0.parquet").schema_arrow.names


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_no_reader_lacks_an_encoding_and_all_can_prune(tmp_path, precision):
    """Spark's vectorized reader has these encodings; float16 has neither it nor DuckDB."""
    num_examples = (1 << 19) + 1000
    store.write_part(tmp_path, 1, table(np.arange(num_examples)), "abc", precision=precision)
    file = pq.ParquetFile(tmp_path / "dynamics/epoch=1/part-0.parquet")
    assert file.metadata.num_row_groups == 2
    for group in range(2):
        columns = [file.metadata.row_group(group).column(number) for number in range(6)]
        assert {column.physical_type for column in columns} == {"INT64", "INT32", "FLOAT"}
        known = {"PLAIN", "RLE", "RLE_DICTIONARY", "DELTA_BINARY_PACKED"}
        assert set().union(*(column.encodings for column in columns)) <= known
        assert all(column.is_stats_set and column.compression == "ZSTD" for column in columns)
        ids = columns[0].statistics
        assert (ids.min, ids.max) == ((0, (1 << 19) - 1), (1 << 19, num_examples - 1))[group]


def test_a_record_takes_at_most_seven_bytes(tmp_path):
    generate(tmp_path / "run", num_examples=300_000, epochs=3)
    num_records, size = bytes_per_record(tmp_path / "run")
    assert num_records == 900_000
    assert size <= 7


@settings(max_examples=25)
@given(st.permutations(range(12)), st.integers(1, 12))
def test_parts_in_any_order_are_read_by_id(tmp_path_factory, ids, num_parts):
    run = tmp_path_factory.mktemp("run")
    for part in range(num_parts):
        store.write_part(run, 1, table(sorted(ids[part::num_parts])), "abc", part=part, num_parts=num_parts)
    records = store.read_epoch(run, 1, "abc")
    assert records.loss.tolist() == [0.5 * number for number in range(12)]
    assert records.given_label.tolist() == [number % 3 for number in range(12)]


@pytest.mark.parametrize(
    ("epochs", "code", "values"),
    [
        ((0, 1, 2), "epoch-0", {}),
        ((0,), "epoch-0", {}),
        ((2, 3), "missing-epoch", {"epoch": 1}),
        ((1, 2, 4, 6), "missing-epoch", {"epoch": 3}),
    ],
)
def test_epochs_are_numbered_from_1(tmp_path, epochs, code, values):
    for epoch in epochs:
        store.write_part(tmp_path, epoch, table(range(3)), "abc")
    with refused(code, folder=str(tmp_path / "dynamics"), **values):
        list(store.read_epochs(tmp_path))


def test_the_labels_of_all_epochs_are_those_of_the_first(tmp_path):
    whole = table(range(3))
    store.write_part(tmp_path, 1, whole, "abc")
    changed = whole.set_column(1, "given_label", pa.array([0, 2, 2], pa.int32()))
    store.write_part(tmp_path, 2, changed, "abc")
    with refused("labels-differ", example=1, folder=str(store.epoch_folder(tmp_path, 2))):
        list(store.read_epochs(tmp_path))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", -0.01),
        ("loss", np.inf),
        ("el2n", -0.01),
        ("el2n", 1.5),
        ("given_label", -100),
        ("prediction", -1),
    ],
)
def test_an_impossible_value_is_refused_with_its_example(tmp_path, name, value):
    whole = table([4, 3, 2, 1, 0])
    column = whole.column_names.index(name)
    changed = whole.set_column(column, name, pa.array([0, None, value, 1, 1], whole[name].type))
    store.write_part(tmp_path, 1, changed, "abc")
    path = store.epoch_folder(tmp_path, 1) / "part-0.parquet"
    with refused("impossible-record", column=name, example=2, path=str(path)) as caught:
        store.read_epoch(tmp_path, 1)
    assert caught.value.values["value"] == pytest.approx(value)
    assert f"{value:g}" in str(caught.value)


def test_rounding_nulls_and_nan_are_not_impossible(tmp_path):
    # One step of float16 above sqrt(2).
    values = {"loss": [-1e-4, None, np.nan, 0], "el2n": [1.416, None, np.nan, -1e-4]}
    values |= {"given_label": [0, None, 1, 0], "prediction": [0, None, 1, 0], "margin": [-np.inf, None, 0, 0]}
    whole = pa.table({"example_id": range(4), **values}, schema=store.SCHEMA)
    store.write_part(tmp_path, 1, whole, "abc")
    assert store.read_epoch(tmp_path, 1).is_readable.tolist() == [True, False, False, True]


def test_an_epoch_of_nothing(tmp_path):
    store.write_part(tmp_path, 1, store.SCHEMA.empty_table(), "abc")
    with refused("no-records"):
        list(store.read_epochs(tmp_path))


@pytest.mark.parametrize(("ids", "missing"), [([0, 2], 1), ([0, 1, 1], 2), ([-1, 0], 1), ([1, 2], 0)])
def test_a_missing_or_repeated_id_is_refused(tmp_path, ids, missing):
    store.write_part(tmp_path, 1, table(ids), "abc")
    with refused("missing-example", example=missing, num_records=len(ids)):
        store.read_epoch(tmp_path, 1)


def test_no_epochs_and_a_short_epoch_are_refused(tmp_path):
    with refused("no-records", folder=str(tmp_path / "dynamics")):
        list(store.read_epochs(tmp_path))
    store.write_part(tmp_path, 1, table(range(3)), "abc")
    store.write_part(tmp_path, 2, table(range(2)), "abc")
    with refused("epoch-sizes-differ", found=2, expected=3):
        list(store.read_epochs(tmp_path))


def test_missing_and_misplaced_parts_are_refused(tmp_path):
    for part in (0, 1):
        store.write_part(tmp_path, 1, table([part]), "abc", part=part, num_parts=2)
    folder, other = store.epoch_folder(tmp_path, 1), store.epoch_folder(tmp_path, 2)
    folder.rename(other)
    with refused("misplaced-part", path=str(other / "part-0.parquet"), part=0, num_parts=2, epoch=1):
        store.read_epoch(tmp_path, 2)
    other.rename(folder)
    store.write_part(tmp_path, 1, table([1]), "abc", part=1, num_parts=3)
    with refused("misplaced-part", part=1, num_parts=3, epoch=1):
        store.read_epoch(tmp_path, 1)
    (folder / "part-1.parquet").unlink()
    with refused("missing-part", part="part-1.parquet", num_parts=2, folder=str(folder)):
        store.read_epoch(tmp_path, 1)


def test_columns_of_records_that_are_missing_or_of_other_types_are_refused(tmp_path):
    path = store.epoch_folder(tmp_path, 1) / "part-0.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(table(range(3)).drop_columns("margin"), path)
    with refused("missing-record-column", column="margin", path=str(path)):
        store.read_epoch(tmp_path, 1)
    changed = table(range(3)).set_column(4, "margin", pa.array(["a", "b", "c"]))
    pq.write_table(changed, path)
    with refused("wrong-record-types", path=str(path)):
        store.read_epoch(tmp_path, 1)

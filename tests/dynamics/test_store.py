import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hardness.dynamics import store
from hardness.errors import UserError


def table(ids) -> pa.Table:
    ids = np.asarray(ids)
    columns = {
        "example_id": ids,
        "given_label": ids % 3,
        "prediction": ids % 2,
        "loss": ids * 0.5,
        "margin": ids * 1.0,
        "el2n": ids * 0.25,
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
    for epoch in (1, 2):
        store.write_part(tmp_path, epoch, table(range(5)), "abc")
    by_pandas = pd.read_parquet(tmp_path / "dynamics").astype({"epoch": int})
    glob = f"{tmp_path}/dynamics/*/*.parquet"
    by_duckdb = duckdb.sql(
        f"select * from read_parquet('{glob}', hive_partitioning = true) order by epoch, example_id"
    )
    pd.testing.assert_frame_equal(by_pandas, by_duckdb.df(), check_dtype=False)
    assert "epoch" not in pq.ParquetFile(tmp_path / "dynamics/epoch=1/part-0.parquet").schema_arrow.names


@pytest.mark.parametrize("ids", [[0, 2], [0, 1, 1]])
def test_a_missing_or_repeated_id_is_refused(tmp_path, ids):
    store.write_part(tmp_path, 1, table(ids), "abc")
    with pytest.raises(UserError, match="every example id"):
        store.read_epoch(tmp_path, 1)


def test_no_epochs_a_gap_and_a_short_epoch_are_refused(tmp_path):
    with pytest.raises(UserError, match="track a run there first"):
        list(store.read_epochs(tmp_path))
    store.write_part(tmp_path, 1, table(range(3)), "abc")
    store.write_part(tmp_path, 2, table(range(2)), "abc")
    with pytest.raises(UserError, match="3 records"):
        list(store.read_epochs(tmp_path))
    store.drop_epochs_after(tmp_path, 1)
    store.write_part(tmp_path, 3, table(range(3)), "abc")
    with pytest.raises(UserError, match="no epoch 2"):
        list(store.read_epochs(tmp_path))

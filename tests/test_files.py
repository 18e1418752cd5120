import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hardness import files
from hardness.errors import UserError

TABLE = pd.DataFrame({"example_id": [0, 1], "score": pd.array([3, None], dtype="Int32")})


def test_a_table_comes_back_with_nulls_settings_and_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "t.parquet"
    files.write_table(path, TABLE, "abc", {"seed": 1})
    pd.testing.assert_frame_equal(files.read_table(path, "abc").to_pandas(), TABLE)
    assert files.table_settings(path) == {"seed": 1}
    assert [p.name for p in path.parent.iterdir()] == ["t.parquet"]


def test_the_same_table_is_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        files.write_table(tmp_path / name, TABLE, "abc")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "t"
    files.write_text(path, "old")

    def fail() -> None:
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_another_data_sets_table_is_refused_with_both_fingerprints(tmp_path):
    files.write_table(tmp_path / "t", TABLE, "abc")
    with pytest.raises(UserError, match=r"expected data set def .* found data set abc"):
        files.read_table(tmp_path / "t", "def")


def test_another_format_version_is_refused(tmp_path):
    metadata = {"hardness.format": "0", "hardness.fingerprint": "abc"}
    pq.write_table(pa.table({"x": [1]}).replace_schema_metadata(metadata), tmp_path / "t")
    with pytest.raises(UserError, match=r"format version 1 .* found format version 0"):
        files.read_table(tmp_path / "t")


def test_what_is_no_parquet_or_not_there_is_refused(tmp_path):
    (tmp_path / "t").write_text("no")
    with pytest.raises(UserError, match="a whole Parquet file"):
        files.read_table(tmp_path / "t")
    with pytest.raises(UserError, match="none there"):
        files.read_table(tmp_path / "u")

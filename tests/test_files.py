import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hardness import files
from tests.conftest import refused

TABLE = pd.DataFrame({"example_id": [0, 1], "score": pd.array([3, None], dtype="Int32")})


def test_a_table_keeps_nulls_and_settings_and_leaves_no_other_file(tmp_path):
    path = tmp_path / "new" / "t.parquet"
    files.write_table(path, TABLE, "abc", {"seed": 1})
    pd.testing.assert_frame_equal(files.read_table(path, "abc").to_pandas(), TABLE)
    assert files.table_settings(path) == {"seed": 1}
    assert [p.name for p in path.parent.iterdir()] == ["t.parquet"]


def test_equal_tables_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        files.write_table(tmp_path / name, TABLE, "abc")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_failed_write_keeps_the_old_file(tmp_path):
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


def test_a_table_of_another_data_set_is_rejected(tmp_path):
    files.write_table(tmp_path / "t", TABLE, "abc")
    with refused("other-data-set", path=str(tmp_path / "t"), found="abc", expected="def"):
        files.read_table(tmp_path / "t", "def")


def test_another_format_version_is_rejected(tmp_path):
    metadata = {"hardness.format": "0", "hardness.fingerprint": "abc"}
    pq.write_table(pa.table({"x": [1]}).replace_schema_metadata(metadata), tmp_path / "t")
    with refused("other-format-version", path=str(tmp_path / "t"), found="0", expected="1"):
        files.read_table(tmp_path / "t")


def test_missing_and_damaged_tables_are_rejected(tmp_path):
    (tmp_path / "t").write_text("no")
    with refused("damaged-parquet", path=str(tmp_path / "t")):
        files.read_table(tmp_path / "t")
    with refused("no-such-file", path=str(tmp_path / "u")):
        files.read_table(tmp_path / "u")


@pytest.mark.parametrize(
    ("text", "code", "values"),
    [
        ("{", "invalid-json", {}),
        ("[]", "other-format-version", {"found": None}),
        ('{"format_version": "0"}', "other-format-version", {"found": "0"}),
        ('{"format_version": "1", "b": 0}', "missing-json-keys", {"missing": "a, c"}),
    ],
)
def test_invalid_json_files_are_rejected_with_the_given_hint(tmp_path, text, code, values):
    (tmp_path / "x.json").write_text(text)
    with refused(code, path=str(tmp_path / "x.json"), **values) as caught:
        files.read_json(tmp_path / "x.json", ("a", "b", "c"), "Write it again.")
    assert "Write it again." in str(caught.value)

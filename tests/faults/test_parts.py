"""Records with a part that is missing, truncated, of another run, repeated, or damaged."""

import shutil

import numpy as np
import pyarrow as pa
import pytest

from hardness import Recorder, scores
from hardness.dynamics import store
from hardness.errors import UserError
from tests.conftest import refused


def write(run, fingerprint="abc", epochs=2):
    """Two parts of five examples each."""
    for epoch in range(1, epochs + 1):
        for part in (0, 1):
            ids = np.arange(part, 10, 2)
            numbers = {name: np.full(5, 0.5) for name in ("loss", "margin", "el2n")}
            table = pa.table({"example_id": ids, "given_label": ids, "prediction": ids, **numbers})
            store.write_part(run, epoch, table.cast(store.SCHEMA), fingerprint, part=part, num_parts=2)


@pytest.fixture
def run(tmp_path):
    write(tmp_path / "run")
    assert len(scores(tmp_path / "run")) == 10
    return tmp_path / "run"


def test_a_missing_part(run):
    folder = run / "dynamics/epoch=1"
    (folder / "part-1.parquet").unlink()
    with refused("missing-part", part="part-1.parquet", num_parts=2, folder=str(folder)):
        scores(run)
    (folder / "part-0.parquet").unlink()
    with refused("missing-epoch", folder=str(run / "dynamics"), epoch=1):
        scores(run)


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_truncated_part(run, keep):
    path = run / "dynamics/epoch=2/part-1.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with refused("damaged-parquet", path=str(path)):
        scores(run)
    with refused("damaged-parquet", path=str(path)):
        Recorder(run, 10, resume=True, fingerprint="abc")


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_part_with_a_flipped_bit_is_refused_or_read_unchanged(run, step):
    path = run / "dynamics/epoch=1/part-0.parquet"
    whole, expected = path.read_bytes(), store.read_epoch(run, 1, "abc")
    errors = []
    for position in range(4, len(whole), step):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
        try:
            found = store.read_epoch(run, 1, "abc")
        except UserError as error:
            errors.append(str(error))
        else:
            # Statistics, sizes and other metadata that reading does not use.
            for name, values in vars(expected).items():
                np.testing.assert_array_equal(vars(found)[name], values)
    assert len(errors) > 300 / step
    assert all("epoch=1" in error for error in errors)


def test_a_part_of_another_run(run, tmp_path):
    write(tmp_path / "other", "def")
    path = run / "dynamics/epoch=1/part-1.parquet"
    shutil.copy(tmp_path / "other/dynamics/epoch=1/part-1.parquet", path)
    with refused("other-data-set", path=str(path), found="def", expected="abc"):
        scores(run)


def test_a_part_of_another_program(run):
    path = run / "dynamics/epoch=2/extra.parquet"
    pa.parquet.write_table(store.SCHEMA.empty_table(), path)
    with refused("other-format-version", path=str(path)):
        scores(run)


@pytest.mark.parametrize("name", ["part-1.parquet", "part-2.parquet", "part-0 (copy).parquet"])
def test_a_repeated_part(run, name):
    path = run / f"dynamics/epoch=1/{name}"
    shutil.copy(run / "dynamics/epoch=1/part-0.parquet", path)
    with refused("misplaced-part", path=str(path), part=0, num_parts=2, epoch=1):
        scores(run)


def test_an_epoch_in_place_of_another(run):
    shutil.copytree(run / "dynamics/epoch=1", run / "dynamics/epoch=3")
    with refused("misplaced-part", path=str(run / "dynamics/epoch=3/part-0.parquet"), part=0, epoch=1):
        scores(run)

"""A folder of records with a part that is missing, cut off, foreign, twice there, or spoilt."""

import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from hardness import Recorder, scores
from hardness.dynamics import store
from hardness.errors import UserError


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


def refuse(run, told):
    with pytest.raises(UserError, match=told):
        scores(run)


def test_a_missing_part(run):
    (run / "dynamics/epoch=1/part-1.parquet").unlink()
    refuse(run, r"expected 2 parts in .*epoch=1; found no part-1\.parquet; restore it")
    (run / "dynamics/epoch=1/part-0.parquet").unlink()
    refuse(run, r"expected epochs 1\.\.2 .*; found no epoch 1")


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_part_that_is_cut_off(run, keep):
    path = run / "dynamics/epoch=2/part-1.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    refuse(run, r"epoch=2/part-1\.parquet.*\[damaged-parquet\]")
    with pytest.raises(UserError, match=r"\[damaged-parquet\]"):
        Recorder(run, 10, resume=True, fingerprint="abc")


def test_a_part_whose_bits_have_changed(run):
    path = run / "dynamics/epoch=1/part-0.parquet"
    whole, expected = path.read_bytes(), scores(run)
    told = []
    # Every fifth byte: some bytes are of statistics and sizes.
    for position in range(4, len(whole), 5):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
        try:
            found = scores(run)
        except UserError as error:
            told.append(str(error))
        else:
            # Statistics, sizes and the like, which scores don't look at.
            pd.testing.assert_frame_equal(found, expected)
    assert len(told) > 60
    assert all("epoch=1" in each for each in told)


def test_a_part_of_another_run(run, tmp_path):
    write(tmp_path / "other", "def")
    shutil.copy(tmp_path / "other/dynamics/epoch=1/part-1.parquet", run / "dynamics/epoch=1/part-1.parquet")
    refuse(run, r"part-1\.parquet.* def\b.* abc\b.*\[other-data-set\]")


def test_a_part_of_another_program(run):
    table = store.SCHEMA.empty_table()
    pa.parquet.write_table(table, run / "dynamics/epoch=2/extra.parquet")
    refuse(run, r"extra\.parquet.*\[other-format-version\]")


@pytest.mark.parametrize("name", ["part-2.parquet", "part-0 (copy).parquet"])
def test_a_part_that_is_there_twice(run, name):
    shutil.copy(run / "dynamics/epoch=1/part-0.parquet", run / f"dynamics/epoch=1/{name}")
    refuse(run, r"expected part-0 to part-1 in .*; found part 0 of 2 in part-")


def test_a_part_in_the_place_of_another(run):
    shutil.copy(run / "dynamics/epoch=1/part-0.parquet", run / "dynamics/epoch=1/part-1.parquet")
    refuse(run, r"found part 0 of 2 in part-1\.parquet")


def test_an_epoch_in_the_place_of_another(run):
    shutil.copytree(run / "dynamics/epoch=1", run / "dynamics/epoch=3")
    refuse(run, r"expected epoch 3 in .*epoch=3/part-0\.parquet; found epoch 1")

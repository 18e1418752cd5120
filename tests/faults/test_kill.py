"""SIGKILL at any moment loses nothing but the epoch under way."""

import subprocess
import sys

import pandas as pd
import pytest

from tests.faults import kill


def test_three_kills_three_identical_results():
    seen = kill.main(3, num_variants=1)
    assert sum("went on with epoch" in line for line in seen) >= 1


@pytest.mark.slow
def test_more_kills():
    seen = kill.main(8, seed=1)
    # Kills that came too late prove nothing.
    assert sum("went on with epoch" in line for line in seen) >= 4


@pytest.mark.slow
def test_two_ranks_killed():
    seen = kill.main(3, seed=2, launch=kill.TWO_RANKS, num_variants=1)
    assert any("went on with epoch" in line for line in seen)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["retrain", "memorize"])
def test_a_grid_goes_on_where_it_was_killed(tmp_path, stage):
    hardness = [sys.executable, "-m", "hardness"]

    def run(*words, **options):
        return subprocess.run(
            [*hardness, *words], cwd=tmp_path, capture_output=True, text=True, check=True, **options
        ).stdout

    if stage == "retrain":
        run("track", "--epochs", "3")
        run("split")
        words = ["retrain", "--epochs", "15"]
    else:
        words = ["memorize", "--noise", "0.5", "--epochs", "4"]
    process = subprocess.Popen(
        [*hardness, *words, "--out", "killed"], cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    while len(list((tmp_path / "killed/members").glob("*.parquet"))) < 2:
        assert process.poll() is None
    process.kill()
    process.wait()
    done = len(list((tmp_path / "killed/members").glob("*.parquet")))
    told = run(*words, "--out", "killed", "--resume")
    run(*words, "--out", "whole")
    one, other = (pd.read_parquet(tmp_path / name / "curves.parquet") for name in ("killed", "whole"))
    pd.testing.assert_frame_equal(one, other)
    members = one.groupby(["trained_on", "optimizer", "seed"]).ngroups
    assert f"{members - done}/{members - done} " in told
    assert f"{members - done + 1}/" not in told
    assert not (tmp_path / "killed/members").exists()

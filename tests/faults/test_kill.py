"""SIGKILL at any moment loses nothing but the epoch under way."""

import functools
import re
import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from tests import processes
from tests.faults.kill import compare, die, kill, resume

slow = pytest.mark.slow
EPOCHS = 3
COMMON = ("track", "--epochs", EPOCHS, "--schedule", "cosine", "--device", "cpu", "--out", "r")
VARIANTS = {
    "sgdm": COMMON,
    "rm3": (*COMMON, "--optimizer", "rm3", "--record", "train"),
    "m3+adamw": (*COMMON, "--optimizer", "m3+adamw", "--lr", 0.001, "--noise", 0.3),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Path]:
    """The runs that nobody kills."""
    folders = {name: tmp_path_factory.mktemp("whole") for name in VARIANTS}
    for name, folder in folders.items():
        processes.run(*VARIANTS[name], cwd=folder, check=True)
    return {name: folder / "r" for name, folder in folders.items()}


@pytest.mark.parametrize(
    ("variant", "pattern", "count", "when", "first_trained"),
    [
        ("sgdm", "run.json", 1, "after", 1),
        ("rm3", "examples.parquet", 1, "before", 1),
        ("m3+adamw", "epoch=1/part", 1, "before", 1),
        ("sgdm", "epoch=1/part", 1, "after", 1),
        ("rm3", "last.pt", 1, "after", 2),
        ("rm3", "epoch=2/part", 1, "before", 2),
        ("m3+adamw", "last.pt", 2, "before", 2),
        ("sgdm", "last.pt", 3, "after", None),
        ("m3+adamw", "scores.parquet", 1, "before", None),
        ("rm3", "scores.parquet", 1, "after", None),
        pytest.param("sgdm", "last.pt", 1, "before", 1, marks=slow),
        pytest.param("m3+adamw", "epoch=2/part", 1, "after", 2, marks=slow),
        pytest.param("sgdm", "last.pt", 2, "after", 3, marks=slow),
    ],
)
def test_a_killed_run_resumes_to_the_same_files(
    tmp_path, whole, variant, pattern, count, when, first_trained
):
    kill(VARIANTS[variant], tmp_path, pattern, count, when)
    trained = resume(VARIANTS[variant], tmp_path, tmp_path / "r")
    assert trained == ([] if first_trained is None else [*range(first_trained, EPOCHS + 1)])
    compare(tmp_path / "r", whole[variant])


def test_a_run_that_is_killed_while_it_resumes(tmp_path, whole):
    kill(COMMON, tmp_path, "last.pt", 1, "after")
    for count in (1, 2):
        kill((*COMMON, "--resume"), tmp_path, "part-0", count, "after")
    resume(COMMON, tmp_path, tmp_path / "r")
    compare(tmp_path / "r", whole["sgdm"])


@pytest.mark.parametrize(
    ("pattern", "count", "when"),
    [
        ("last.pt", 2, "before"),
        pytest.param("epoch=2/part-1", 1, "before", marks=slow),
        pytest.param("last.pt", 2, "after", marks=slow),
    ],
)
def test_two_ranks_killed(tmp_path, pattern, count, when):
    def start(*words, cwd: Path, check: bool, before=None) -> processes.Answer:
        command = processes.command_of(*words, before=before)
        return processes.run_ranks(2, command, cwd, check=check)[0]

    start(*COMMON, cwd=tmp_path, check=True)
    shutil.move(tmp_path / "r", tmp_path / "whole")
    begun = processes.start_ranks(
        2, processes.command_of(*COMMON, before=functools.partial(die, pattern, count, when)), tmp_path
    )
    # The rank that is left notices, or is killed as torchrun would.
    while all(each.poll() is None for each in begun):
        time.sleep(0.01)
    for each in begun:
        if each.poll() is None:
            each.send_signal(signal.SIGKILL)
    assert -signal.SIGKILL in [each.wait().status for each in begun]
    assert resume(COMMON, tmp_path, tmp_path / "r", start)
    compare(tmp_path / "r", tmp_path / "whole")


@pytest.mark.parametrize("stage", ["retrain", pytest.param("memorize", marks=slow)])
def test_a_grid_resumes_where_it_was_killed(tmp_path, stage):
    if stage == "retrain":
        processes.run("track", "--epochs", 2, cwd=tmp_path, check=True)
        processes.run("split", cwd=tmp_path, check=True)
        words = ["retrain", "--epochs", 2, "--seeds", 1]
    else:
        words = ["memorize", "--noise", 0.5, "--epochs", 1]
    kill((*words, "--out", "killed"), tmp_path, "members/", 2, "after")
    told = processes.run(*words, "--out", "killed", "--resume", cwd=tmp_path, check=True).out
    processes.run(*words, "--out", "whole", cwd=tmp_path, check=True)
    one, other = (pd.read_parquet(tmp_path / name / "curves.parquet") for name in ("killed", "whole"))
    pd.testing.assert_frame_equal(one, other)
    members = one.groupby(["trained_on", "optimizer", "seed"]).ngroups
    assert re.findall(r"^(\d+/\d+) ", told, re.MULTILINE) == [
        f"{number}/{members - 2}" for number in range(1, members - 1)
    ]
    assert not (tmp_path / "killed/members").exists()

"""`hardness run`, the real command line: a dry run, a kill, a failure, and resuming."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from hardness.runs.reading import read_info, read_log
from tests import processes
from tests.conftest import assert_refused

# Two runs of retrain take a second each: long enough for a kill after the first network.
RECIPE = """
[track]
seed = [0, 1]
epochs = 3

[split]
from = "track"

[retrain]
from = "split"
seeds = 1
epochs = 12

[report]
from = ["track", "retrain"]
"""


@pytest.fixture
def recipe(here):
    """Runs the recipe -> its output; or starts it -> the process."""
    Path("small.toml").write_text(RECIPE)

    def run(*words, begin=False, status=0):
        if begin:
            return processes.start("run", "small.toml", *words, cwd=here)
        answer = processes.run("run", "small.toml", *words, cwd=here, timeout=300)
        assert answer.status == status, answer
        return answer.out + answer.err

    return run


def wait_for(holds, process):
    while not holds():
        assert process.poll() is None
        time.sleep(0.02)


@pytest.mark.slow
def test_a_plan_is_shown_run_killed_and_resumed(recipe):
    assert "7 runs: 7 to do, about" in recipe("--dry-run")
    assert not Path("runs").exists()

    process = recipe(begin=True)
    second = Path("runs/small/retrain-seed1")
    wait_for(lambda: (second / "members").exists() and len(read_log(second)) > 12, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait().status == -signal.SIGKILL
    first = Path("runs/small/retrain-seed0")
    before = {path: path.stat().st_mtime_ns for path in Path("runs/small").rglob("run.json")}
    done = {path.stem for path in Path("runs/small/done").iterdir()}
    assert done == {"track-seed0", "track-seed1", "split-seed0", "split-seed1", "retrain-seed0"}

    assert "retrain-seed1: at epoch" in recipe("--dry-run")
    told = recipe()
    # Only what was missing runs.
    assert [line.split(":")[0] for line in told.splitlines() if line.startswith("[")] == [
        "[6/7] retrain-seed1",
        "[7/7] report",
    ]
    after = {path: path.stat().st_mtime_ns for path in before}
    assert [path.parent.name for path in before if after[path] != before[path]] == ["retrain-seed1"]
    for run in (first, second):
        epochs = [(line["trained_on"], line["epoch"]) for line in read_log(run)]
        assert len(epochs) == len(set(epochs)) == 5 * 12
    assert Path("reports/small/index.html").exists()
    assert "7 runs: 7 done" in recipe()


@pytest.mark.slow
def test_an_interrupted_plan_says_how_to_resume(recipe):
    process = recipe("--set", "track.epochs=400", begin=True)
    wait_for(lambda: read_log(Path("runs/small/track-seed0")), process)
    process.send_signal(signal.SIGTERM)
    answer = process.wait()
    assert answer.status == 130
    assert answer.out.endswith(" hardness run small.toml --set track.epochs=400\n")
    assert read_info(Path("runs/small/track-seed0"))["status"] == "interrupted"


@pytest.mark.slow
def test_runs_that_do_not_depend_on_a_failure_are_executed(recipe):
    told = recipe("--set", "track.lr=[0.01, 1e30]", "--set", "retrain.epochs=1", status=2)
    assert re.search(r"track-seed0-lr1e\+30: failed: .*\[training-diverged\]", told)
    for seed in (0, 1):
        assert Path(f"runs/small/retrain-seed{seed}-lr0.01/curves.parquet").exists()
        assert not Path(f"runs/small/retrain-seed{seed}-lr1e+30").exists()
    assert not Path("reports/small").exists()
    assert ": split-seed0-lr1e+30, split-seed1-lr1e+30, retrain" in told
    assert "hardness track --epochs 3 --lr 1e+30" in told
    last = told.splitlines()[-1]
    assert "2 of 13 runs failed: track-seed0-lr1e+30" in last
    again = "hardness run small.toml --set 'track.lr=[0.01, 1e30]' --set retrain.epochs=1 [failed-runs]"
    assert last.endswith(again)
    assert "Traceback" not in told


@pytest.mark.slow
def test_a_killed_process_is_a_failed_run(recipe):
    process = recipe("--set", "track.epochs=400", "--set", "track.seed=0", begin=True)
    tracked = Path("runs/small/track")
    wait_for(lambda: len(read_log(tracked)) > 2, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("no way to find the process of a run here")
    (forker,) = [int(pid) for pid in children.read_text().split() if _forks(int(pid))]
    worker = int(Path(f"/proc/{forker}/task/{forker}/children").read_text().split()[0])
    os.kill(worker, signal.SIGKILL)
    answer = process.wait()
    assert_refused(answer, "failed-runs", "track")
    assert "track: failed: its process was killed, exit status -9" in answer.out


def _forks(pid: int) -> bool:
    return "forkserver" in Path(f"/proc/{pid}/cmdline").read_text()


def test_a_large_grid_needs_yes(recipe):
    seeds = f"track.seed={list(range(600))}"
    told = recipe("--set", seeds, status=2)
    assert told.endswith(" [many-runs]\n")
    assert told.count("\n") == 1

"""Recipes on a Ray cluster of two nodes, of which one is killed."""

import fcntl
import re
import signal
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hardness.recipes.plan import PlannedRun, expand
from hardness.recipes.recipe import read
from hardness.recipes.work import do
from hardness.runs.reading import read_info, read_log
from tests import processes
from tests.conftest import assert_refused

slow = pytest.mark.slow
PIPELINE = """
[track]
seed = [0, 1]
epochs = 2

[split]
from = "track"

[report]
from = "track"
"""


def plan(text: str, *changes: str) -> dict[str, PlannedRun]:
    Path("mine.toml").write_text(text)
    return expand(read(Path("mine.toml"), changes))


def commands(run: PlannedRun) -> int:
    """How often it was started or resumed."""
    return sum(line.startswith("$ hardness") for line in run.log.read_text().splitlines())


@pytest.fixture(scope="module")
def cluster():
    """A head node without resources, and two nodes of one core each."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("OMP_NUM_THREADS", "1")
        from ray.cluster_utils import Cluster

        quick = {"health_check_period_ms": 500, "health_check_timeout_ms": 1000}
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": quick}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster
        cluster.shutdown()


@pytest.fixture
def on_cluster(cluster, here):
    """The engine, connected to the cluster before and after."""
    import ray

    from hardness.recipes.on_ray import on_ray

    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    yield on_ray
    assert ray.is_initialized()
    ray.shutdown()


@slow
def test_results_are_those_without_ray(on_cluster):
    runs = plan(PIPELINE)
    # As if a lost worker of the first run had not ended yet.
    first = runs["track-seed0"]
    first.folder.mkdir(parents=True)
    held = (first.folder / ".lock").open("w")
    fcntl.flock(held, fcntl.LOCK_EX)
    events = []
    for event in on_cluster([*runs.values()]):
        if event is None and len(events) > 1 and not held.closed:
            assert (first, "began") not in events
            held.close()
        events += [(event.run, event.kind)] if event else []
    assert held.closed
    assert {kind for _, kind in events} == {"began", "done"}
    for run in runs.values():
        assert run.is_done
        assert events.index((run, "began")) < events.index((run, "done"))
        assert all(events.index((need, "done")) < events.index((run, "began")) for need in run.depends_on)
        assert commands(run) == 1
    apart = plan(PIPELINE.partition("[report]")[0], "runs=apart")
    for run in apart.values():
        do(run, num_gpus=0)
    tables = sorted(path for run in runs.values() if run.folder for path in run.folder.rglob("*.parquet"))
    assert {"scores.parquet", "q0.2.parquet"} <= {path.name for path in tables}
    for path in tables:
        other = Path("apart", *path.parts[2:])
        assert pq.read_table(path).equals(pq.read_table(other)), path


TO_KILL = """
[warm]
stage = "track"
epochs = 2

[track]
seed = [0, 1]
epochs = 100
"""


@slow
def test_a_killed_node_loses_nothing_and_no_finished_run_is_repeated(on_cluster, cluster):
    runs = plan(TO_KILL)
    long = [runs["track-seed0"], runs["track-seed1"]]
    node, before = None, {}
    events = []
    for event in on_cluster([*runs.values()]):
        events += [(event.run.name, event.kind)] if event else []
        if event is None and node is None and all(run.num_epochs_done >= 1 for run in long):
            before = {run: read_log(run.folder) for run in long}
            when = runs["warm"].folder.joinpath("run.json").stat().st_mtime_ns
            node = next(iter(cluster.worker_nodes))
            cluster.remove_node(node, allow_graceful=False)
    assert node is not None
    cluster.add_node(num_cpus=1)
    assert sorted(events) == sorted((name, kind) for name in runs for kind in ("began", "done"))
    assert all(run.is_done for run in runs.values())
    for run in long:
        lines = read_log(run.folder)
        assert [line["epoch"] for line in lines] == [*range(1, 101)]
        # The last epoch was logged, but may not have been saved.
        kept = before[run][:-1]
        assert lines[: len(kept)] == kept
    # Only the run on that node was resumed.
    assert sorted(commands(run) for run in long) == [1, 2]
    assert commands(runs["warm"]) == 1
    assert runs["warm"].folder.joinpath("run.json").stat().st_mtime_ns == when


@slow
def test_runs_that_depend_on_a_failed_one_are_skipped(on_cluster, hardness):
    Path("mine.toml").write_text('[track]\nlr = [0.005, 1e9]\nepochs = 1\n[split]\nfrom = "track"\n')
    answer = hardness("run", "mine.toml", "--engine", "ray")
    assert answer.status == 2
    assert answer.err.count("\n") == 1
    assert_refused(answer, "failed-runs", "track-lr1e+09", "hardness run mine.toml --engine ray")
    assert re.search(r"track-lr1e\+09 failed: .*\[training-diverged\]", answer.out)
    assert ": split-lr1e+09\n" in answer.out
    done = {path.stem for path in Path("runs/mine/done").iterdir()}
    assert done == {"track-lr0.005", "split-lr0.005"}
    # A failure is not retried.
    assert Path("runs/mine/logs/track-lr1e+09.log").read_text().count("$ hardness") == 1
    answer = hardness("run", "mine.toml", "--engine", "ray", "--set", "track.cpus=2")
    assert_refused(answer, "too-few-resources", "--set track.cpus=1")


@slow
def test_a_run_over_several_gpus_starts_through_torchrun(on_cluster, cluster):
    node = cluster.add_node(num_cpus=1, num_gpus=2)
    runs = plan("[track]\nepochs = 1\ngpus = 2\n")
    try:
        assert [event.kind for event in on_cluster([*runs.values()]) if event] == ["began", "done"]
    finally:
        cluster.remove_node(node)
    info = read_info(runs["track"].folder)
    assert (info["num_ranks"], info["status"]) == (2, "finished")


@slow
def test_an_interrupt_stops_the_runs(cluster, here):
    Path("mine.toml").write_text("[track]\nepochs = 2000\nseed = [0, 1, 2]\n")
    words = ["run", "mine.toml", "--engine", "ray"]
    driver = processes.start(*words, cwd=here, env={"RAY_ADDRESS": cluster.address})
    logs = [Path(f"runs/mine/track-seed{seed}/log.jsonl") for seed in (0, 1)]
    until = time.monotonic() + 120
    while not all(log.exists() and len(read_log(log.parent)) > 3 for log in logs):
        assert driver.poll() is None, driver.wait()
        assert time.monotonic() < until
        time.sleep(0.1)
    driver.send_signal(signal.SIGINT)
    answer = driver.wait()
    assert (answer.status, answer.err) == (130, "")
    assert answer.out.endswith(": hardness run mine.toml --engine ray\n")
    assert {read_info(log.parent)["status"] for log in logs} == {"interrupted"}
    assert not Path("runs/mine/track-seed2").exists()


def test_ray_is_not_installed(hardness, monkeypatch):
    Path("mine.toml").write_text("[track]\n")
    monkeypatch.setitem(sys.modules, "ray", None)
    answer = hardness("run", "mine.toml", "--engine", "ray")
    assert_refused(answer, "no-ray", "pip install 'hardness-toolkit[ray]'")


def test_no_cluster_answers(hardness, monkeypatch):
    Path("mine.toml").write_text("[track]\n")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    answer = hardness("run", "mine.toml", "--engine", "ray")
    assert_refused(answer, "no-ray-cluster", "127.0.0.1:1", "Connection refused")

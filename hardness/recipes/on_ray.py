"""Executes the runs of a recipe on a Ray cluster: each is a task with the CPUs and GPUs that it requests.

All nodes share the working folder, with runs and data, and have the same installation of hardness.
"""

import logging
import os
import platform
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from hardness.errors import UserError
from hardness.recipes.plan import PlannedRun
from hardness.recipes.work import Engine, Event, attempt, check_resources
from hardness.runs.reading import is_in_use

_TICK = 0.5
"""Seconds between two looks at the progress of the runs."""
_PATIENCE = 120.0
"""Seconds for a network file system to free the lock of a dead node and to show files of other nodes."""
_RETRIES = 10
"""Retries of a run whose worker or node was lost; a failed run is not retried."""


def on_ray(runs: Sequence[PlannedRun]) -> Engine:
    """Execute the runs, each after its dependencies, on any node with free resources.

    Uses the cluster that the caller is connected to, or RAY_ADDRESS, or else this machine alone.
    """
    is_ours = not ray.is_initialized()
    if is_ours:
        _join()
    try:
        yield from _on_cluster(runs)
    finally:
        if is_ours:
            ray.shutdown()


def _join() -> None:
    address = os.environ.get("RAY_ADDRESS") or "local"
    # No usage statistics are sent.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray installs its own SIGTERM handler, which ends the process without cleanup.
    handler = signal.getsignal(signal.SIGTERM)
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit() and "/" not in host:
            # Without a cluster at the address, Ray retries for many minutes.
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except OSError as error:
        values = {"address": address, "reason": str(error).splitlines()[0]}
        sentence, hint = "No Ray cluster answers at {address}: {reason}.", "Start it, or unset RAY_ADDRESS."
        raise UserError("no-ray-cluster", sentence, hint, **values) from error
    signal.signal(signal.SIGTERM, handler)


def _on_cluster(runs: Sequence[PlannedRun]) -> Engine:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = (int(max(node.get(name, 0) for node in nodes)) for name in ("CPU", "GPU"))
    check_resources(runs, "cpus", cpus)
    if gpus:
        check_resources(runs, "gpus", gpus)
    tasks: dict[PlannedRun, ray.ObjectRef] = {}
    before: dict[PlannedRun, int] = {}
    for run in runs:
        # A new mark proves that a worker finished, even if it was lost before it reported.
        run.mark.unlink(missing_ok=True)
        before[run] = _size(run.log)
        finished = [tasks[other] for other in run.depends_on if other in tasks]
        num_gpus = run.stage.gpus if gpus else 0
        options = {"num_cpus": run.stage.cpus, "num_gpus": num_gpus, **_environment()}
        tasks[run] = _do.options(name=run.name, **options).remote(run, Path.cwd(), num_gpus, *finished)
    left, begun, failed = dict(tasks), set(), set()
    try:
        while left:
            ready, _ = ray.wait([*left.values()], timeout=_TICK)
            # Again, because Ray may report the dependents of a failed run before the run.
            ready, _ = ray.wait([*left.values()], num_returns=len(left), timeout=0)
            for run, task in list(left.items()):
                is_ready = task in ready
                error = _error(run, task) if is_ready else ""
                can_start = not failed & {*run.depends_on}
                if error:
                    failed.add(run)
                if run not in begun and can_start and (is_ready or _size(run.log) > before[run]):
                    begun.add(run)
                    yield Event(run, "began")
                if is_ready:
                    del left[run]
                    if can_start:
                        yield Event(run, "failed" if error else "done", error)
            if not ready:
                yield None
    finally:
        waiting = [*left.values()]
        # Cancelled twice, because Python ignores an interrupt inside a finalizer; then killed.
        for force in (False, False, True):
            for task in waiting:
                ray.cancel(task, force=force)
            if waiting:
                _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_PATIENCE / 4)


@ray.remote(max_calls=1, max_retries=_RETRIES)
def _do(run: PlannedRun, working: Path, num_gpus: float, *fed: None) -> None:
    """Execute the run in a worker process; Ray waits for ``fed`` first."""
    if not working.is_dir():
        raise _not_shared(working)
    os.chdir(working)
    if run.is_done:
        return
    if run.folder:
        # A lost worker may still be dying; the stage refuses any other process in the folder.
        _wait_until(lambda: not is_in_use(run.folder))
    if error := attempt(run, num_gpus):
        raise RuntimeError(error)


def _environment() -> dict[str, Any]:
    """Task options that give the worker the same import path."""
    path = os.environ.get("PYTHONPATH")
    if not path:
        return {}
    path = os.pathsep.join(str(Path(each).absolute()) for each in path.split(os.pathsep))
    return {"runtime_env": {"env_vars": {"PYTHONPATH": path}}}


def _error(run: PlannedRun, task: ray.ObjectRef) -> str:
    """The error of a finished task, or an empty string."""
    try:
        ray.get(task)
    except RayTaskError as error:
        return str(error.cause)
    except RayError as error:
        return f"lost with its worker or node: {str(error).strip().splitlines()[0]}"
    if not _wait_until(run.mark.exists):
        return str(_not_shared(run.mark))
    return ""


def _not_shared(path: Path) -> UserError:
    sentence, hint = "Node {node} does not have {path}.", "Run the recipe in a folder that all nodes share."
    return UserError("not-shared", sentence, hint, node=platform.node(), path=str(path))


def _wait_until(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + _PATIENCE
    while not (holds := condition()) and time.monotonic() < until:
        time.sleep(_TICK)
    return holds


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

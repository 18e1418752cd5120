"""The engine of a Ray cluster: each run is a task, on a node with the CPUs and GPUs that it asks for.

All nodes see the working folder, with the runs and the data in it, and the same installation of hardness.
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
from hardness.recipes.plan import Run
from hardness.recipes.work import Engine, Event, attempt, check_asked
from hardness.stages.run_folder import is_in_use

_TICK = 0.5
"""Seconds after which we say that nothing is new."""
_PATIENCE = 120.0
"""Seconds in which a network file system frees the lock of a node that died, and shows what another wrote."""
_RETRIES = 10
"""Of a run whose worker or node was lost, not of one that failed."""


def on_ray(runs: Sequence[Run]) -> Engine:
    """Do the runs, of which each comes after those that it needs, wherever the cluster has room.

    The cluster is that to which the caller belongs, or that of RAY_ADDRESS; else one of this machine alone.
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
    # What is run is nobody else's business.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray would have SIGTERM end us where we stand.
    handler = signal.getsignal(signal.SIGTERM)
    host, _, port = address.rpartition(":")
    try:
        if port.isdigit() and "/" not in host:
            # Where nobody answers, Ray asks on for many minutes.
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except OSError as error:
        values = {"address": address, "reason": str(error).splitlines()[0]}
        sentence, hint = "No Ray cluster answers at {address}: {reason}.", "Start it, or unset RAY_ADDRESS."
        raise UserError("no-ray-cluster", sentence, hint, **values) from error
    signal.signal(signal.SIGTERM, handler)


def _on_cluster(runs: Sequence[Run]) -> Engine:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = (int(max(node.get(name, 0) for node in nodes)) for name in ("CPU", "GPU"))
    check_asked(runs, "cpus", cpus)
    if gpus:
        check_asked(runs, "gpus", gpus)
    tasks: dict[Run, ray.ObjectRef] = {}
    before: dict[Run, int] = {}
    for run in runs:
        # From now on a stamp says that a worker came to the end, even if it was lost before it could say so.
        run.stamp.unlink(missing_ok=True)
        before[run] = _size(run.log)
        fed = [tasks[need] for need in run.needs if need in tasks]
        num_gpus = run.stage.gpus if gpus else 0
        asked = {"num_cpus": run.stage.cpus, "num_gpus": num_gpus, **_environment()}
        tasks[run] = _do.options(name=run.name, **asked).remote(run, Path.cwd(), num_gpus, *fed)
    left, begun, failed = dict(tasks), set(), set()
    try:
        while left:
            ready, _ = ray.wait([*left.values()], timeout=_TICK)
            # Again, since of those that a failure ends Ray may tell any first.
            ready, _ = ray.wait([*left.values()], num_returns=len(left), timeout=0)
            for run, task in list(left.items()):
                is_ready = task in ready
                error = _error(run, task) if is_ready else ""
                is_fed = not failed & {*run.needs}
                if error:
                    failed.add(run)
                if run not in begun and is_fed and (is_ready or _size(run.log) > before[run]):
                    begun.add(run)
                    yield Event(run, "began")
                if is_ready:
                    del left[run]
                    if is_fed:
                        yield Event(run, "failed" if error else "done", error)
            if not ready:
                yield None
    finally:
        waiting = [*left.values()]
        # Asked to stop, again, since Python drops an interrupt that falls into a finalizer, and made to.
        for force in (False, False, True):
            for task in waiting:
                ray.cancel(task, force=force)
            if waiting:
                _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_PATIENCE / 4)


@ray.remote(max_calls=1, max_retries=_RETRIES)
def _do(run: Run, working: Path, num_gpus: float, *fed: None) -> None:
    """Do the run in a process of its own; ``fed`` is what Ray waits for."""
    if not working.is_dir():
        sentence = "Node {node} has no folder {folder}."
        hint = "Run the recipe in a folder that all nodes share."
        raise UserError("not-shared", sentence, hint, node=platform.node(), folder=str(working))
    os.chdir(working)
    if run.is_done:
        return
    if run.folder:
        # The worker before us may be dying still. Whoever else is at work there, the stage will say.
        _comes_true(lambda: not is_in_use(run.folder))
    if error := attempt(run, num_gpus):
        raise RuntimeError(error)


def _environment() -> dict[str, Any]:
    """The options of a task by which its worker finds the modules that we find."""
    path = os.environ.get("PYTHONPATH")
    if not path:
        return {}
    path = os.pathsep.join(str(Path(each).absolute()) for each in path.split(os.pathsep))
    return {"runtime_env": {"env_vars": {"PYTHONPATH": path}}}


def _error(run: Run, task: ray.ObjectRef) -> str:
    """What went wrong in a task that has ended, or nothing."""
    try:
        ray.get(task)
    except RayTaskError as error:
        return str(error.cause)
    except RayError as error:
        return f"lost with its worker or node: {str(error).strip().splitlines()[0]}"
    if not _comes_true(run.stamp.exists):
        return f"done, but {run.stamp} isn't to be seen here: run the recipe in a folder that all nodes share"
    return ""


def _comes_true(is_so: Callable[[], bool]) -> bool:
    until = time.monotonic() + _PATIENCE
    while not (so := is_so()) and time.monotonic() < until:
        time.sleep(_TICK)
    return so


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

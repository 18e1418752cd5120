"""Executes the runs of a recipe on one machine: one per GPU at a time, each in its own process."""

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess

from hardness.recipes.plan import PlannedRun
from hardness.recipes.work import Engine, Event, attempt, check_resources

_TICK = 0.5
"""Seconds between two looks at the progress of the runs."""
_PATIENCE = 30.0
"""Seconds for a run to finish writing its epoch after it was told to stop."""


def on_this_machine(runs: Sequence[PlannedRun]) -> Engine:
    """Execute the runs in their order, each after its dependencies.

    Without GPUs one at a time, with all cores.
    """
    # Runs are forked from a server that has already imported the stages.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"hardness.stages.{name}" for name in ("track", "retrain", "report")])
    if gpus := _gpus():
        check_resources(runs, "gpus", len(gpus))
    # Without GPUs there is one slot, the CPU.
    free = gpus or [""]
    waiting, failed = list(runs), set()
    running: dict[int, tuple[PlannedRun, BaseProcess, Connection, list[str]]] = {}
    try:
        while waiting or running:
            unfinished = {run.name for run in waiting} | {run.name for run, *_ in running.values()}
            for run in list(waiting):
                needs = {need.name for need in run.depends_on}
                num_taken = max(1, int(run.stage.gpus)) if gpus else 1
                if needs & failed:
                    waiting.remove(run)
                    failed.add(run.name)
                elif not needs & unfinished and num_taken <= len(free):
                    waiting.remove(run)
                    taken, free = free[:num_taken], free[num_taken:]
                    process, result = _start(context, run, taken)
                    running[process.sentinel] = run, process, result, taken
                    yield Event(run, "began")
            ended = wait(list(running), _TICK)
            for sentinel in ended:
                run, process, result, taken = running.pop(sentinel)
                free = [*free, *taken]
                process.join()
                try:
                    error = result.recv()
                except EOFError:
                    error = f"its process was killed, exit status {process.exitcode}"
                if error:
                    failed.add(run.name)
                yield Event(run, "failed" if error else "done", error)
            if not ended:
                yield None
    finally:
        processes = [process for _, process, *_ in running.values()]
        # Terminated twice, because Python ignores an interrupt inside a finalizer; then killed.
        for force in (False, False, True):
            for process in processes:
                process.kill() if force else process.terminate()
            until = time.monotonic() + _PATIENCE
            for process in processes:
                process.join(max(0, until - time.monotonic()))
            processes = [process for process in processes if process.is_alive()]


def _gpus() -> list[str]:
    """GPU names for CUDA_VISIBLE_DEVICES."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else map(str, itertools.count())
    return list(itertools.islice(names, torch.cuda.device_count()))


def _start(context: BaseContext, run: PlannedRun, gpus: list[str]) -> tuple[BaseProcess, Connection]:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(run, gpus, theirs), name=run.name)
    process.start()
    theirs.close()
    return process, ours


def _work(run: PlannedRun, gpus: list[str], result: Connection) -> None:
    """Execute the run in this process; send its error, or an empty string."""
    # Ctrl-C reaches only the parent, which then stops its runs.
    os.setsid()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if gpus != [""]:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    result.send(attempt(run, num_gpus=len(gpus) if any(gpus) else 0))


def _end_with_parent() -> None:
    """If the parent is killed, kill this run too; files are complete or missing, so nothing is lost."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGKILL)

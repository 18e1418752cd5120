"""The engine of one machine: as many runs at once as it has GPUs, each in a process of its own."""

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

from hardness.recipes.plan import Run
from hardness.recipes.work import Engine, Event, attempt, check_asked

_TICK = 0.5
"""Seconds after which we say that nothing is new."""
_PATIENCE = 30.0
"""Seconds in which a run that is asked to stop ends the write of its epoch."""


def on_this_machine(runs: Sequence[Run]) -> Engine:
    """Do the runs, of which each comes after those that it needs.

    Without GPUs one at a time, with all cores.
    """
    # Each run is forked from a process that has imported what takes long, and computed nothing yet.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["hardness.stages.track", "hardness.stages.retrain", "hardness.stages.report"]
    )
    gpus = _gpus()
    if gpus:
        check_asked(runs, "gpus", len(gpus))
    # Without GPUs there is one place, that of the processor.
    free = gpus or [""]
    waiting, failed = list(runs), set()
    running: dict[int, tuple[Run, BaseProcess, Connection, list[str]]] = {}
    try:
        while waiting or running:
            at_work = {run.name for run in waiting} | {run.name for run, *_ in running.values()}
            for run in list(waiting):
                needs = {need.name for need in run.needs}
                num_taken = max(1, int(run.stage.gpus)) if gpus else 1
                if needs & failed:
                    waiting.remove(run)
                    failed.add(run.name)
                elif not needs & at_work and num_taken <= len(free):
                    waiting.remove(run)
                    taken, free = free[:num_taken], free[num_taken:]
                    process, told = _start(context, run, taken)
                    running[process.sentinel] = run, process, told, taken
                    yield Event(run, "began")
            ended = wait(list(running), _TICK)
            for sentinel in ended:
                run, process, told, taken = running.pop(sentinel)
                free = [*free, *taken]
                process.join()
                try:
                    error = told.recv()
                except EOFError:
                    error = f"its process was killed, exit status {process.exitcode}"
                if error:
                    failed.add(run.name)
                yield Event(run, "failed" if error else "done", error)
            if not ended:
                yield None
    finally:
        processes = [process for _, process, *_ in running.values()]
        # Asked to stop, again, since Python drops an interrupt that falls into a finalizer, and made to.
        for force in (False, False, True):
            for process in processes:
                process.kill() if force else process.terminate()
            until = time.monotonic() + _PATIENCE
            for process in processes:
                process.join(max(0, until - time.monotonic()))
            processes = [process for process in processes if process.is_alive()]


def _gpus() -> list[str]:
    """Their names for CUDA_VISIBLE_DEVICES."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else map(str, itertools.count())
    return list(itertools.islice(names, torch.cuda.device_count()))


def _start(context: BaseContext, run: Run, gpus: list[str]) -> tuple[BaseProcess, Connection]:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(run, gpus, theirs), name=run.name)
    process.start()
    theirs.close()
    return process, ours


def _work(run: Run, gpus: list[str], told: Connection) -> None:
    """Do the run in this process; send what went wrong, or nothing."""
    # The keyboard interrupts us, and we ask our runs to stop.
    os.setsid()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if gpus != [""]:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    told.send(attempt(run, num_gpus=len(gpus) if any(gpus) else 0))


def _end_with_parent() -> None:
    """Whoever is killed leaves no run behind: nothing is lost, since files are whole or not there."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGKILL)

"""Executes one run of a recipe."""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from hardness.console import escape_unencodable
from hardness.errors import UserError
from hardness.recipes.plan import PlannedRun

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Event:
    """A change in the state of a run, reported by an engine."""

    run: PlannedRun
    kind: str
    """began | done | failed"""
    error: str = ""


Engine = Generator[Event | None, None, None]
"""Executes runs, each after its dependencies and only if they succeeded; None: no news."""


def check_resources(runs: Sequence[PlannedRun], what: str, most: int) -> None:
    """Raise ``UserError`` if a run requests more ``cpus`` or ``gpus`` than one machine has."""
    for run in runs:
        if (requested := getattr(run.stage, what)) > most:
            sentence = "[{id}] requests {requested:g} {what} per run, but there are at most {most}."
            values = {"id": run.stage.id, "requested": requested, "what": what, "most": most}
            raise UserError("too-few-resources", sentence, "Lower it: --set {id}.{what}={most}.", **values)


def attempt(run: PlannedRun, num_gpus: float) -> str:
    """Execute a run in this process, its output in its log -> its error, or an empty string."""
    run.log.parent.mkdir(parents=True, exist_ok=True)
    with run.log.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    escape_unencodable()
    # The on_ray engine sees from the size of the log that the run has started.
    print("$", run.command, flush=True)
    try:
        do(run, num_gpus)
    except UserError as error:
        print(f"hardness: {error}")
        return str(error)
    except KeyboardInterrupt:
        return "interrupted"
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return ""


def do(run: PlannedRun, num_gpus: float) -> None:
    """Execute a run here, or on several GPUs with ``torchrun``, then mark it as done.

    Resumes a run that was killed. Raises the ``UserError`` of its stage.
    """
    started = time.perf_counter()
    if num_gpus > 1:
        _torchrun(shlex.split(run.command), int(num_gpus))
    else:
        run.stage.entry.code()(run.config)
    run.mark_done(time.perf_counter() - started)


def _torchrun(words: Sequence[str], num_processes: int) -> None:
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(num_processes)]
    process = subprocess.Popen([sys.executable, "-m", *launch, "-m", *words], preexec_fn=_end_with_parent)
    try:
        # Polled, because Ray cannot interrupt one long wait.
        while process.poll() is None:
            time.sleep(0.2)
    except BaseException:
        # torchrun passes this on to its processes, and kills them if necessary.
        process.terminate()
        process.wait()
        raise
    if process.returncode:
        sentence, hint = "torchrun with {num} processes failed (status {status}).", "Read their output."
        raise UserError("processes-failed", sentence, hint, num=num_processes, status=process.returncode)


def _end_with_parent() -> None:
    """In the new process: receive SIGTERM when the parent ends for any reason."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

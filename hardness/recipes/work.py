"""Doing one run of a plan."""

import ctypes
import importlib
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
from hardness.recipes.plan import Run
from hardness.stages import STAGES

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Event:
    """What an engine tells of a run."""

    run: Run
    kind: str
    """began | done | failed"""
    error: str = ""


Engine = Generator[Event | None, None, None]
"""Does runs, each after those that it needs, and none that needs one that failed; None: nothing new."""


def check_asked(runs: Sequence[Run], what: str, most: int) -> None:
    """Raises ``UserError`` where a run asks for more ``cpus`` or ``gpus`` than one machine has."""
    for run in runs:
        if (asked := getattr(run.stage, what)) > most:
            sentence = "[{id}] asks for {asked:g} {what} per run; there are at most {most}."
            values = {"id": run.stage.id, "asked": asked, "what": what, "most": most}
            raise UserError("too-few-resources", sentence, "Lower it: --set {id}.{what}={most}.", **values)


def attempt(run: Run, num_gpus: float) -> str:
    """Do a run in a process that does nothing else, its output in its log -> what went wrong, or nothing."""
    run.log.parent.mkdir(parents=True, exist_ok=True)
    with run.log.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    escape_unencodable()
    # Those who watch the log see that the run has begun.
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


def do(run: Run, num_gpus: float) -> None:
    """Do a run here, or, on several GPUs, in a process each that ``torchrun`` starts; mark that it is done.

    A run that was killed goes on. Raises ``UserError`` as its stage does.
    """
    started = time.perf_counter()
    if num_gpus > 1:
        _torchrun(shlex.split(run.command), int(num_gpus))
    else:
        module, function = STAGES[run.stage.kind].split(":")
        getattr(importlib.import_module(module), function)(run.config)
    run.mark_done(time.perf_counter() - started)


def _torchrun(words: Sequence[str], num_processes: int) -> None:
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(num_processes)]
    process = subprocess.Popen([sys.executable, "-m", *launch, "-m", *words], preexec_fn=_end_with_parent)
    try:
        # Not in one wait, which Ray could not interrupt.
        while process.poll() is None:
            time.sleep(0.2)
    except BaseException:
        # It asks its own to stop, and kills those that don't.
        process.terminate()
        process.wait()
        raise
    if process.returncode:
        sentence, hint = "torchrun with {num} processes failed (status {status}).", "Read their output."
        raise UserError("processes-failed", sentence, hint, num=num_processes, status=process.returncode)


def _end_with_parent() -> None:
    """In a new process: be asked to stop when the one that started it is gone, however it went."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

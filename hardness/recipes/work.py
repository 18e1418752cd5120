"""Doing one run of a plan."""

import importlib
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from hardness.errors import UserError
from hardness.recipes.plan import Run
from hardness.stages import STAGES


@dataclass(frozen=True)
class Event:
    """What an engine tells of a run."""

    run: Run
    kind: str
    """began | done | failed"""
    error: str = ""


Engine = Iterator[Event | None]
"""Does runs, each after those that it needs, and none that needs one that failed; None: nothing new."""


def do(run: Run, num_gpus: int) -> None:
    """Do a run here, or, on several GPUs, in a process each that ``torchrun`` starts; mark that it is done.

    A run that was killed goes on. Raises ``UserError`` as its stage does.
    """
    started = time.perf_counter()
    if num_gpus > 1:
        launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(num_gpus)]
        words = [sys.executable, "-m", *launch, "-m", *shlex.split(run.command)]
        if status := subprocess.run(words).returncode:
            raise UserError(f"{num_gpus} processes that end well", f"status {status}", "read what they said")
    else:
        module, function = STAGES[run.stage.kind].split(":")
        getattr(importlib.import_module(module), function)(run.config)
    run.mark_done(time.perf_counter() - started)

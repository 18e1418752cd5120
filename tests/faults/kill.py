"""SIGKILL at every kind of moment of a run: just before, or just after, the n-th rename of a file.

Every file appears by a rename onto its place, so the renames are the moments between which the folder does
not change. ``die`` runs in the process that is to be killed; afterwards ``hardness ... --resume`` must end
with the files of a run that nobody killed.
"""

import functools
import os
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import torch

from hardness.dynamics.store import recorded_epochs
from hardness.runs.reading import read_log
from tests import processes
from tests.processes import Answer

TIMES = {"time", "seconds", "images_per_second", "loader_wait"}
"""What differs between two runs in log.jsonl."""


def at_rename(act: Callable[[], object], pattern: str, count: int, when: str) -> None:
    """In this process ``act`` ``before`` or ``after`` the ``count``-th rename to a path with that pattern."""
    real, seen = os.replace, [0]

    def replace(source, target, **options) -> None:
        is_match = re.search(pattern, str(target)) is not None
        seen[0] += is_match
        is_due = is_match and seen[0] == count
        if is_due and when == "before":
            act()
        real(source, target, **options)
        if is_due and when == "after":
            act()

    os.replace = replace


def die(pattern: str, count: int, when: str) -> None:
    """SIGKILL this process there."""
    at_rename(lambda: os.kill(os.getpid(), signal.SIGKILL), pattern, count, when)


def kill(words: Sequence, cwd: Path, pattern: str, count: int, when: str) -> None:
    """Start the command, and have it killed there. Raises ``AssertionError`` if it ended otherwise."""
    answer = processes.run(*words, cwd=cwd, before=functools.partial(die, pattern, count, when))
    assert answer.status == -signal.SIGKILL, answer


def resume(words: Sequence, cwd: Path, run: Path, start: Callable[..., Answer] = processes.run) -> list[int]:
    """Check what a kill has left, and resume -> the epochs that were trained.

    Raises ``AssertionError`` if a recorded epoch is trained again, but for the last one, whose checkpoint may
    be missing.
    """
    for path in run.rglob("*.parquet"):
        pq.read_table(path, partitioning=None)
    recorded = recorded_epochs(run)
    answer = start(*words, "--resume", cwd=cwd, check=True)
    trained = [int(number) for number in re.findall(r"^epoch (\d+)/", answer.out, re.MULTILINE)]
    assert not trained or trained[0] >= max(recorded, default=0), (trained, recorded)
    return trained


def compare(run: Path, whole: Path) -> None:
    """Parquet files byte for byte, the last checkpoint number by number, the log line by line."""
    names = sorted(path.relative_to(whole) for path in whole.rglob("*.parquet"))
    assert names == sorted(path.relative_to(run) for path in run.rglob("*.parquet"))
    assert names
    for name in names:
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    one, other = (torch.load(each / "checkpoints/last.pt", weights_only=True) for each in (run, whole))
    assert one["epoch"] == other["epoch"]
    for key, value in one["model"].items():
        assert torch.equal(value, other["model"][key]), key
    logs = [
        [{key: value for key, value in line.items() if key not in TIMES} for line in read_log(each)]
        for each in (run, whole)
    ]
    assert logs[0] == logs[1]
    assert not list(run.rglob(".*.writing"))

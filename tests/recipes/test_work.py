"""A run in several processes."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from hardness.recipes.work import _torchrun
from hardness.runs.reading import is_in_use, read_info, read_log
from tests import processes

WORDS = ["hardness", "track", "--epochs", "3000", "--out", "run"]


def until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_ranks_stop_when_the_process_that_started_them_is_killed(here):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    worker = processes.Started(partial(_torchrun, WORDS, 2), here, environment)
    until(lambda: read_log(Path("run")))
    assert is_in_use(Path("run"))
    worker.send_signal(signal.SIGKILL)
    assert worker.wait().status == -signal.SIGKILL
    until(lambda: not is_in_use(Path("run")))
    assert read_info(Path("run"))["status"] == "interrupted"

"""A run in several processes."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from hardness.stages.run_folder import is_in_use, read_info, read_log

CODE = """
from hardness.recipes.work import _torchrun
_torchrun(["hardness", "track", "--epochs", "3000", "--out", "run"], 2)
"""


def until(is_so) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_where_who_started_them_is_killed_they_stop(here, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    worker = subprocess.Popen(
        [sys.executable, "-c", CODE], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(lambda: read_log(Path("run")))
    assert is_in_use(Path("run"))
    worker.kill()
    worker.wait()
    until(lambda: not is_in_use(Path("run")))
    assert read_info(Path("run"))["status"] == "interrupted"

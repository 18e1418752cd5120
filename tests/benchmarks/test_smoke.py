"""The benchmarks run; what they find is not tested, since these machines are shared."""

import subprocess
import sys
from pathlib import Path

import pytest

from hardness.registry import OPTIMIZERS

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_optimizers():
    command = [sys.executable, "-m", "tests.benchmarks.optimizers", "--smoke"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name, entry in OPTIMIZERS.items():
        if entry.is_robust:
            assert told.count(f"| {name.upper()}, fused | ") >= 2
    assert "RM3, published" in told
    assert "x." in told.split("An epoch of M3")[1]

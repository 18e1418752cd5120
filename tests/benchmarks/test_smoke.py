"""The benchmarks run. Their timings are not tested, since test machines are shared."""

import functools
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hardness.dynamics.scores import SCORES
from hardness.registry import OPTIMIZERS
from tests import processes

ROOT = Path(__file__).parents[2]


def run(name: str) -> None:
    module = f"tests.benchmarks.{name}"
    sys.argv = [module, "--smoke"]
    importlib.import_module(module).main()


def smoke(name: str) -> str:
    result = processes.Started(functools.partial(run, name), ROOT, os.environ).wait(300)
    assert result.status == 0, result
    return result.out


@pytest.mark.slow
def test_recorder():
    output = smoke("recorder")
    assert output.count("| Recorder.update |") == 6
    assert "18,000 | generated: " in output
    assert "hardness split --quantile 0.2`, 2,000 examples: **" in output


@pytest.mark.slow
def test_optimizers():
    output = smoke("optimizers")
    for name, entry in OPTIMIZERS.items():
        if entry.is_method:
            assert f"| {name.upper()}, fused | " in output
    assert "RM3, published" in output
    assert "x." in output.split("An epoch of M3")[1]


@pytest.mark.slow
def test_images():
    # Not forked from the test server: there, the workers of a DataLoader take seconds to exit.
    command = [sys.executable, "-m", "tests.benchmarks.images", "--smoke"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for size in (64, 224):
        assert output.count(f"| {size} | **hardness, packed, uint8** | ") == 2
        assert output.count(f"| {size} | ImageFolder, normalized | ") == 2
    assert "| small_cnn | 64 | cpu | 64 | " in output


@pytest.mark.slow
def test_scores():
    output = smoke("scores")
    for name in SCORES:
        assert f"### {name}\n" in output
    assert output.count("- Cost: ") == len(SCORES)
    assert "| mlp, digits of 8 x 8 | " in output


@pytest.mark.slow
def test_report():
    output = smoke("report")
    assert "3 runs of 2,000 generated examples of 20 classes" in output
    assert "| peak memory, GiB | " in output

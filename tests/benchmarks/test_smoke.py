"""The benchmarks run. Their timings are not tested, since test machines are shared."""

import subprocess
import sys
from pathlib import Path

import pytest

from hardness.dynamics.scores import SCORES
from hardness.registry import OPTIMIZERS

ROOT = Path(__file__).parents[2]


def smoke(name: str) -> str:
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", "--smoke"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_recorder():
    output = smoke("recorder")
    assert output.count("| Recorder.update |") == 6
    assert "18,000 | a generator" in output
    assert "hardness split --quantile 0.2`, 2,000 examples: **" in output


@pytest.mark.slow
def test_optimizers():
    output = smoke("optimizers")
    for name, entry in OPTIMIZERS.items():
        if entry.is_method:
            assert output.count(f"| {name.upper()}, fused | ") >= 2
    assert "RM3, published" in output
    assert "x." in output.split("An epoch of M3")[1]


@pytest.mark.slow
def test_images():
    output = smoke("images")
    for size in (64, 224):
        assert output.count(f"| {size} | **hardness, packed, uint8** | ") == 2
        assert output.count(f"| {size} | ImageFolder, normalised | ") == 2
    assert "| small_cnn | 64 | cpu | 64 | " in output


@pytest.mark.slow
def test_scores():
    output = smoke("scores")
    for name in SCORES:
        assert f"### {name}\n" in output
    assert output.count("- Price: ") == len(SCORES)
    assert "| mlp, digits of 8 x 8 | " in output


@pytest.mark.slow
def test_report():
    output = smoke("report")
    assert "3 runs of 10,000 generated examples of 100 classes" in output
    assert "| memory at its peak, GiB | " in output

"""Shared by the benchmarks: timing, and the description of the machine."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import torch


def cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def machine() -> str:
    """Date, version of torch and processor, for the first lines of a report."""
    return f"{date.today()}: torch {torch.__version__}, {cpu()},\n{torch.get_num_threads()} cores."


def seconds(task: Callable[[], Any], device: str = "cpu") -> float:
    _wait(device)
    started = time.perf_counter()
    task()
    _wait(device)
    return time.perf_counter() - started


def in_turn(
    tasks: Mapping[str, Callable[[], Any]], rounds: int, repeats: int = 1, device: str = "cpu"
) -> dict[str, float]:
    """Median seconds of each task. All are timed in turn, so that noise of the machine affects all."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds + 1):
        for name, task in tasks.items():
            taken = seconds(lambda task=task: [task() for _ in range(repeats)], device) / repeats
            times[name] += [taken] * (number > 0)
    return {name: statistics.median(taken) for name, taken in times.items()}


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()

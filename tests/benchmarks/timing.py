"""What the benchmarks have in common: they time, and say on what."""

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
    """Date, torch and processor, for a report's first lines."""
    return f"{date.today()}: torch {torch.__version__}, {cpu()},\n{torch.get_num_threads()} cores."


def seconds(work: Callable[[], Any], device: str = "cpu") -> float:
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def in_turn(
    works: Mapping[str, Callable[[], Any]], rounds: int, repeats: int = 1, device: str = "cpu"
) -> dict[str, float]:
    """Median seconds of each, all timed in turn, so that a noisy machine is noisy to all of them."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            found = seconds(lambda work=work: [work() for _ in range(repeats)], device) / repeats
            times[name] += [found] * (number > 0)
    return {name: statistics.median(found) for name, found in times.items()}


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()

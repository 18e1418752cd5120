"""Measured seconds per image on this machine: training, evaluation, decoding."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from hardness import models, optim
from hardness.datasets import DataSet
from hardness.datasets.samples import read_in_order
from hardness.resources import resolve_device
from hardness.training.step import train_step

_PIXELS = 100_000
"""Pixels per batch on a CPU, where larger batches are no faster."""
_SECONDS = 0.5
"""Seconds per measurement, after one step of warm-up."""


@dataclass(frozen=True)
class Rate:
    """Seconds per image."""

    trained: float
    """Forward, backward, SGD step."""
    evaluated: float
    num_parameters: int


def measure(data: DataSet, model: str, stem: str, precision: str, batch_size: int, device: str) -> Rate:
    """Measure a network for that data set on random images, each for half a second or one step."""
    where = resolve_device(device)
    network = models.build(model, data, seed=0, stem=stem, precision=precision).to(where)
    optimizer = optim.build("sgd", network.parameters(), lr=1e-3)
    if where.type == "cpu":
        batch_size = min(batch_size, max(2, _PIXELS // math.prod(data.adapter.input_shape[1:])))
    inputs = data.adapter.random_inputs(batch_size, where)
    labels = torch.randint(data.num_classes, (batch_size,), device=where)

    def seconds(call: Callable) -> float:
        call()
        num_calls, started = 0, time.perf_counter()
        while num_calls == 0 or time.perf_counter() - started < _SECONDS:
            call()
            num_calls += 1
            if where.type == "cuda":
                torch.cuda.synchronize()
        return (time.perf_counter() - started) / (num_calls * batch_size)

    trained = seconds(lambda: train_step(network.train(), optimizer, inputs, labels))
    with torch.no_grad():
        evaluated = seconds(lambda: network.eval()(inputs))
    return Rate(trained, evaluated, models.num_parameters(network))


def decode(data: DataSet, workers: int) -> float:
    """Seconds per image to read and decode with ``workers``."""
    last = min(len(data.train), 64 * max(1, workers))
    started = time.perf_counter()
    for _ in read_in_order(data.train.inputs, 0, last, workers):
        pass
    return (time.perf_counter() - started) / last


def state_size(optimizer: str, momentum: float | None) -> float:
    """Numbers in the state of the optimizer per parameter."""
    network = torch.nn.Linear(30, 30)
    built = optim.build(optimizer, network.parameters(), 1e-3, momentum=momentum)
    for _ in range(3):
        train_step(network, built, torch.zeros(9, 30), torch.zeros(9, dtype=torch.int64))
    kept = [value for state in built.state_dict()["state"].values() for value in state.values()]
    return sum(value.numel() for value in kept if torch.is_tensor(value)) / models.num_parameters(network)

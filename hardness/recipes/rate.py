"""How long this machine takes for an image: through a network, and out of its file."""

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
"""Of a batch on a CPU, where large ones are no faster and a step may take a minute."""
_SECONDS = 0.5
"""That are measured, after a step that warms up."""


@dataclass(frozen=True)
class Rate:
    """Seconds an image."""

    trained: float
    """Forward, backward, step of SGD."""
    evaluated: float
    num_parameters: int
    """Of the network."""


def measure(data: DataSet, model: str, stem: str, precision: str, batch_size: int, device: str) -> Rate:
    """Of the network for that data set, on random images, for half a second each, or for a step if longer."""
    where = resolve_device(device)
    network = models.build(model, data, seed=0, stem=stem, precision=precision).to(where)
    optimizer = optim.build("sgd", network.parameters(), lr=1e-3)
    if where.type == "cpu":
        batch_size = min(batch_size, max(2, _PIXELS // math.prod(data.image_shape[1:])))
    images = torch.randint(256, (batch_size, *data.image_shape), dtype=torch.uint8, device=where)
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

    trained = seconds(lambda: train_step(network.train(), optimizer, images, labels))
    with torch.no_grad():
        evaluated = seconds(lambda: network.eval()(images))
    return Rate(trained, evaluated, models.num_parameters(network))


def decode(data: DataSet, workers: int) -> float:
    """Seconds an image that ``workers`` read and decode."""
    last = min(len(data.train), 64 * max(1, workers))
    started = time.perf_counter()
    for _ in read_in_order(data.train.images, 0, last, workers):
        pass
    return (time.perf_counter() - started) / last


def state_size(optimizer: str, momentum: float | None) -> float:
    """How many numbers the optimizer keeps of each parameter."""
    network = torch.nn.Linear(30, 30)
    built = optim.build(optimizer, network.parameters(), 1e-3, momentum=momentum)
    for _ in range(3):
        train_step(network, built, torch.zeros(9, 30), torch.zeros(9, dtype=torch.int64))
    kept = [value for state in built.state_dict()["state"].values() for value in state.values()]
    return sum(value.numel() for value in kept if torch.is_tensor(value)) / models.num_parameters(network)

"""The cost of a step of each optimizer, as ratios within one run.

    python -m tests.benchmarks.optimizers [--smoke] > reports/benchmarks/optimizers.md

Each round times all optimizers in turn, so that noise of the machine affects all of them; values are medians.
Before each timed step a network makes a forward and a backward pass, so that the processor's caches and the
memory allocator are in the same state as in training.
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Callable
from functools import partial, reduce

import torch
import torchvision
from torch import Tensor, nn

from hardness import datasets, models
from hardness.config import Data
from hardness.optim import A3, M3, RA3, RM3, WinsorizedSGD, robust
from hardness.training.step import train_step
from tests.benchmarks.timing import machine, seconds

_COPY = "copy"
_IMPLEMENTATIONS = {"plain": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


class PublishedRM3(torch.optim.Optimizer):
    """Our implementation of the published RM3: a ring of three buffers; sum minus minimum minus maximum."""

    def __init__(self, params, lr: float):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state["number"], state["ring"] = 0, [parameter.grad.clone() for _ in range(3)]
                state["ring"][state["number"] % 3].copy_(parameter.grad)
                state["number"] += 1
                if state["number"] >= 3:
                    parameter.add_(self.median(state["ring"]), alpha=-group["lr"])

    def median(self, ring: list[Tensor]) -> Tensor:
        return reduce(torch.add, ring) - reduce(torch.min, ring) - reduce(torch.max, ring)


class StackedRM3(PublishedRM3):
    """The simplest implementation: torch.stack(...).median."""

    def median(self, ring: list[Tensor]) -> Tensor:
        return torch.stack(ring).median(0).values


class Candidate:
    """An optimizer to be timed, with its own parameters and gradients."""

    def __init__(self, name: str, num_values: int, build: Callable, shapes: list[torch.Size], device: str):
        generator = torch.Generator(device).manual_seed(0)
        self.name, self.num_values = name, num_values
        self.parameters = [nn.Parameter(torch.randn(s, generator=generator, device=device)) for s in shapes]
        self.gradients = [torch.randn(s, generator=generator, device=device) for s in shapes]
        self.optimizer = build(self.parameters)
        self.device = device

    def step(self) -> None:
        for _ in range(3 if hasattr(self.optimizer, "collect") else 1):
            for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
                parameter.grad = gradient
            if hasattr(self.optimizer, "collect"):
                self.optimizer.collect()
        self.optimizer.step()

    def step_seconds(self) -> float:
        return seconds(self.step, self.device)


def candidates(shapes: list[torch.Size], device: str, slow: bool, only: str = "") -> list[Candidate]:
    """The optimizers to be timed.

    ``num_values``: the fewest values that a step must read or write per parameter. ``only``: names separated
    by ``|``.
    """

    def robust_adamw(parameters: list[nn.Parameter], **options: bool) -> torch.optim.Optimizer:
        return robust(torch.optim.AdamW(parameters, lr=1e-3, **options), "rm3", **options)

    kinds = [
        ("SGD", 3, partial(torch.optim.SGD, lr=1e-3)),
        ("SGD, momentum", 5, partial(torch.optim.SGD, lr=1e-3, momentum=0.9)),
        ("RM3", 6, partial(RM3, lr=1e-3)),
        ("RA3", 6, partial(RA3, lr=1e-3)),
        # Three calls of collect(): 2 + 4 + 4 (A3: 2 + 3 + 3) values; the step: 3.
        ("M3", 13, partial(M3, lr=1e-3)),
        ("A3", 11, partial(A3, lr=1e-3)),
        ("AdamW", 7, partial(torch.optim.AdamW, lr=1e-3)),
        ("RM3 on AdamW", 12, robust_adamw),
    ]
    named = [
        (f"{name}, {implementation}", num_values, partial(build, **options))
        for name, num_values, build in kinds
        for implementation, options in _IMPLEMENTATIONS.items()
    ]
    if slow:
        named += [("RM3, published", 6, partial(PublishedRM3, lr=1e-3))]
        named += [("RM3, stack and median", 6, partial(StackedRM3, lr=1e-3))]
    chosen = [each for each in named if not only or each[0] in only.split("|")]
    return [Candidate(name, num_values, build, shapes, device) for name, num_values, build in chosen]


def table(
    make: Callable[[], list[Candidate]], rounds: int, before_each: Callable[[], None], allocations: int = 5
) -> list[str]:
    """Markdown rows; ratios of the medians over all rounds.

    The location in memory changes times by about 10 %, so the candidates are allocated several times.
    """
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(allocations):
        num_values = measure(make(), rounds, before_each, times)
    median = {name: statistics.median(found) for name, found in times.items()}
    per_value = median.pop(_COPY)
    lines = [
        "| optimizer | values per parameter | ms | relative to SGD, plain | relative to SGD, momentum, fused "
        "| relative to a copy of the same size |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    for name, found in median.items():
        lines.append(
            f"| {name} | {num_values[name]} | {1e3 * found:.2f} | {found / median['SGD, plain']:.2f} | "
            f"{found / median['SGD, momentum, fused']:.2f} | {found / (num_values[name] * per_value):.2f} |"
        )
    return lines


def measure(
    measured: list[Candidate], rounds: int, before_each: Callable[[], None], times: dict[str, list[float]]
) -> dict[str, int]:
    """Append to ``times``, for each round, the seconds of each candidate and of a copy per value.

    Returns ``num_values`` of each candidate, by name.
    """
    device = measured[0].device
    source = torch.zeros(3 * sum(parameter.numel() for parameter in measured[0].parameters), device=device)
    target = torch.zeros_like(source)
    for each in measured:
        for _ in range(4):
            each.step()
    for _ in range(rounds):
        before_each()
        # Three read, three written.
        times[_COPY].append(seconds(lambda: target.copy_(source), device) / 6)
        for each in measured:
            before_each()
            times[each.name].append(each.step_seconds())
    return {each.name: each.num_values for each in measured}


def passes(device: str, batch_size: int) -> Callable[[], None]:
    """A forward and a backward pass of ResNet-18."""
    model = torchvision.models.resnet18().to(device)
    images = torch.randn(batch_size, 3, 64, 64, device=device)

    def run() -> None:
        model.zero_grad()
        model(images).sum().backward()

    return run


def m3_epoch(batch_size: int, rounds: int) -> str:
    """A step of M3 compared with one of SGD, forward and backward passes included, on the same batches."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, 3, 64, 64, generator=generator)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(100, (batch_size,), generator=generator)

    def network() -> nn.Module:
        return torchvision.models.resnet18(num_classes=100).to(memory_format=torch.channels_last)

    sgd, m3 = training_steps([torch.optim.SGD, M3], network, images, labels, rounds)
    return (
        f"resnet18, {batch_size} images of 64 x 64 per batch, {rounds} batches each in turn: "
        f"SGD {sgd:.2f} s per batch, M3 {m3:.2f} s: **{m3 / sgd:.2f}** x."
    )


def winsorized_step(batch_size: int, rounds: int) -> str:
    """A step of Winsorized SGD compared with one of SGD, forward and backward passes included."""
    digits = datasets.load(Data(), model="mlp")
    images, labels, _ = digits.train.__getitems__(range(batch_size))
    optimizers = [torch.optim.SGD, WinsorizedSGD]
    sgd, winsorized = training_steps(
        optimizers, lambda: models.build("mlp", digits, seed=0), images, labels, rounds
    )
    return (
        f"mlp, 85,002 parameters, {batch_size} digits per batch, c = 2: SGD {1e3 * sgd:.2f} ms per batch, "
        f"Winsorized SGD {1e3 * winsorized:.1f} ms: **{winsorized / sgd:.0f}** x."
    )


def training_steps(
    optimizers: list[type], network: Callable[[], nn.Module], images: Tensor, labels: Tensor, rounds: int
) -> list[float]:
    """Median seconds of a training step with each optimizer, timed in turn."""
    runs = []
    for build in optimizers:
        model = network()
        runs.append((model, build(model.parameters(), lr=1e-3), []))
    for number in range(rounds + 1):
        for model, optimizer, times in runs:
            found = seconds(lambda m=model, o=optimizer: train_step(m, o, images, labels))
            times += [found] * (number > 0)
    return [statistics.median(times) for _, _, times in runs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--smoke", action="store_true", help="small sizes and few rounds, to check that it runs"
    )
    smoke = parser.parse_args().smoke
    rounds = 1 if smoke else 9
    model = nn.Linear(64, 10) if smoke else torchvision.models.resnet18()
    shapes = [parameter.shape for parameter in model.parameters()]
    all_threads = torch.get_num_threads()
    print("# Cost of an optimizer step\n")
    print(f"`python -m tests.benchmarks.optimizers`, {machine()} {_LEGEND}\n")
    for threads in sorted({1, all_threads}):
        torch.set_num_threads(threads)
        print(f"## {'A small network' if smoke else 'ResNet-18'} on a CPU, threads: {threads}\n")
        make = partial(candidates, shapes, "cpu", slow=True)
        rows = table(make, rounds, passes("cpu", 1 if smoke else 8), allocations=1 if smoke else 5)
        print("\n".join(rows), end="\n\n", flush=True)
    print("## An epoch of M3 compared with SGD\n")
    print(m3_epoch(12 if smoke else 384, rounds=1 if smoke else 7), end="\n\n")
    print("## Winsorized SGD\n")
    print(winsorized_step(96, rounds=1 if smoke else 25), end="\n\n")
    for name, sizes, only in (
        ("ResNet-18", shapes, ""),
        # Ten tensors and few candidates: each needs 16 to 20 bytes per parameter.
        ("One billion parameters", [torch.Size([10**8])] * 10, "SGD, plain|SGD, momentum, fused|RM3, fused"),
    ):
        print(f"## {name} on a GPU\n")
        if torch.cuda.is_available():
            make = partial(candidates, sizes, "cuda", slow=False, only=only)
            rows = table(make, rounds, passes("cuda", batch_size=256))
            print("\n".join(rows), end="\n\n")
        else:
            print("not measured\n")


_LEGEND = """Values are medians. Each round times all optimizers in turn; before each
timed step, ResNet-18 makes a forward and a backward pass. *Values per parameter*: how many values a step must
read or write at least. A copy also reads the memory that it overwrites, so an in-place step can take less
time than a copy of the same size. M3 and A3: three calls of `collect()` and one step. *Published*: our
implementation of RM3 as the paper's authors wrote it. Not included: the compilation of a fused step, about
25 s for ResNet-18, once per machine."""


if __name__ == "__main__":
    main()

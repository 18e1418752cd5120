"""The cost of recording: time, bytes, and the time to compute scores afterwards.

    python -m tests.benchmarks.recorder [--smoke] [--runs RUN ...] > reports/benchmarks/recorder.md

``--runs``: tracked runs of real data, whose bytes are counted too. The package ``aum`` is compared if it is
installed. Writes 0.7 GB to the temporary folder, and removes them.
"""

import argparse
import importlib.util
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch.nn import functional as F

from hardness import Recorder, files
from hardness.datasets.examples import DataSet
from hardness.datasets.images import ImageAdapter, in_memory
from hardness.dynamics import store
from hardness.resources import Resources
from hardness.training.measure import predict
from tests.benchmarks.timing import in_turn, machine, seconds
from tests.jobs import job

IMAGENET = 1_281_167
BATCHES = (256, 512)
# Not getrusage: its peak memory includes that of the parent process.
_PEAK = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"


def update_rows(num_classes: int, batch_size: int, num_examples: int, rounds: int) -> list[str]:
    """update() on one thread, compared with loss and argmax alone, and with the package aum."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch_size, num_classes, generator=generator)
    labels = torch.randint(num_classes, (batch_size,), generator=generator)
    order = torch.randperm(num_examples, generator=generator)
    batches = order[: num_examples // batch_size * batch_size].view(-1, batch_size).unbind()
    next_ids = itertools.cycle(batches)

    def loss_and_argmax() -> None:
        F.cross_entropy(logits, labels, reduction="none")
        logits.argmax(1)

    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(folder, num_examples)
        tasks: dict[str, Callable] = {
            "loss and argmax": loss_and_argmax,
            "Recorder.update": lambda: recorder.update(next(next_ids), logits, labels),
        }
        if importlib.util.find_spec("aum"):
            from aum import AUMCalculator

            calculator = AUMCalculator(folder, compressed=True)
            tasks["aum"] = lambda: calculator.update(logits, labels, next(next_ids).tolist())
        found = in_turn(tasks, rounds, repeats=10)
    floor = found["loss and argmax"]
    return [
        f"| {num_classes:,} | {batch_size} | {name} | {1e6 * taken:.0f} | {taken / floor:.2f} | "
        f"{batch_size / taken / 1e6:.2f} |"
        for name, taken in found.items()
    ]


class Timed(Recorder):
    """Counts the seconds that a training loop spends in calls of the Recorder."""

    spent = 0.0

    def _timed(self, call: Callable) -> None:
        self.spent += seconds(call)

    def update(self, *batch: torch.Tensor) -> None:
        self._timed(lambda: super(Timed, self).update(*batch))

    def end_epoch(self) -> None:
        self._timed(super().end_epoch)

    def flush(self) -> None:
        self._timed(super().flush)


def epoch_lines(
    model_name: str,
    num_examples: int,
    rounds: int,
    *,
    device: str = "cpu",
    size: int = 64,
    batch_size: int = 64,
) -> list[str]:
    """An epoch of a network on synthetic images, recorded in both modes."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (num_examples, 3, size, size), dtype=torch.uint8, generator=generator)
    images = in_memory(pixels, torch.randint(100, (num_examples,), generator=generator), "train")
    data = DataSet(
        images, images, [str(k) for k in range(100)], ImageAdapter((3, size, size), [0.5] * 3, [0.25] * 3)
    )
    torch_device = torch.device(device)
    resources = Resources(torch_device)
    settings = {"model": model_name, "lr": 0.01, "epochs": 1, "batch_size": batch_size}
    training = job(data, resources=resources, **settings).start()

    def train(recorder: Recorder | None = None) -> None:
        list(training.epochs(recorder=recorder))

    def bare_pass() -> None:
        for _ in predict(training.model, images, images.ids, resources):
            pass

    def recorded_pass(recorder: Recorder) -> None:
        for batch in predict(training.model, images, images.ids, resources):
            recorder.update(*batch)
        recorder.end_epoch()
        recorder.flush()

    def tracked(recorder: Recorder) -> None:
        train(recorder)
        recorder.end_epoch()
        recorder.flush()

    with tempfile.TemporaryDirectory() as folder:
        timed = Timed(Path(folder) / "train", num_examples, torch_device)
        plain = Recorder(Path(folder) / "eval", num_examples, torch_device)
        tasks = {
            "tracked": partial(tracked, timed),
            "bare": bare_pass,
            "recorded": partial(recorded_pass, plain),
            "untracked": train,
        }
        found = in_turn(tasks, rounds, device=device)
        fraction = timed.spent / (rounds + 1) / found["tracked"]
    whole, bare = found["untracked"] + found["recorded"], found["untracked"] + found["bare"]
    return [
        f"{model_name}, {num_examples:,} images of {size} x {size}, 100 classes, "
        f"{rounds} epochs each, timed in turn:\n",
        f"- records of the training pass: **{100 * fraction:.2f} %** of the epoch is spent in the Recorder; "
        f"{found['tracked']:.2f} s with records, {found['untracked']:.2f} s without, "
        f"{found['tracked'] / found['untracked']:.3f} x",
        f"- records of an evaluation pass: **{whole / bare:.3f}** x the time of training and an evaluation "
        f"pass without records "
        f"({found['recorded']:.2f} s with records, {found['bare']:.2f} s without, for the pass alone)",
    ]


def generate(run: Path, num_examples: int, epochs: int, num_parts: int = 1) -> float:
    """Write records that resemble those of a network that learns; returns the seconds that this took.

    Labels are sorted, as in ImageNet's folders. The margin of an example grows with the logarithm of the
    epoch, minus a normally distributed difficulty, plus noise. Each part has random examples, as in training
    on many ranks.
    """
    generator = np.random.default_rng(0)
    label = np.sort(generator.integers(0, 1000, num_examples)).astype(np.int32)
    difficulty = 3 * generator.standard_normal(num_examples, np.float32)

    def half(values: np.ndarray) -> np.ndarray:
        return torch.from_numpy(values).half().float().numpy()

    def write() -> None:
        for epoch in range(1, epochs + 1):
            noise = 1.5 * generator.standard_normal(num_examples, np.float32)
            margin = np.float32(2 * np.log(epoch) - 2) - difficulty + noise
            loss = np.logaddexp(0, np.float32(0.5) - margin)
            el2n = -np.expm1(-loss) * (1 + np.float32(0.41) * generator.random(num_examples, np.float32))
            other = (label + generator.integers(1, 1000, num_examples, np.int32)) % 1000
            prediction = np.where(margin > 0, label, other)
            ids = np.arange(num_examples)
            columns = [ids, label, prediction, half(loss), half(margin), half(el2n)]
            table = pa.table(columns, schema=store.SCHEMA)
            part = generator.integers(num_parts, size=num_examples)
            for number in range(num_parts):
                rows = table.filter(part == number) if num_parts > 1 else table
                store.write_part(run, epoch, rows, "generated", part=number, num_parts=num_parts)

    return seconds(write)


def finish(run: Path, num_examples: int) -> None:
    """Write the other files of a tracked run that `hardness split` reads."""
    labels = store.read_epoch(run, 1).given_label
    examples = {
        "example_id": np.arange(num_examples),
        "key": [f"train/n{c:08d}/{i}" for i, c in enumerate(labels)],
    }
    examples |= {"clean_label": labels, "given_label": labels, "is_corrupt": False, "is_readable": True}
    files.write_table(run / "examples.parquet", pd.DataFrame(examples), "generated")
    info = {
        "format_version": files.FORMAT_VERSION,
        "stage": "track",
        "config": {},
        "status": "finished",
        "times": {"started": "2026", "ended": "2026"},
        "versions": {},
        "git_commit": None,
        "seed": 0,
        "fingerprint": "generated",
        "record_mode": "eval",
        "device": "none",
        "data": {"class_names": [str(number) for number in range(1000)]},
    }
    files.write_json(run / "run.json", info)


def bytes_per_record(run: Path) -> tuple[int, float]:
    parts = [
        part for epoch in store.recorded_epochs(run) for part in store.epoch_folder(run, epoch).iterdir()
    ]
    num_records = sum(pa.parquet.read_metadata(part).num_rows for part in parts)
    return num_records, sum(part.stat().st_size for part in parts) / num_records


def hardness(*words: str) -> tuple[float, float]:
    """Run a command; returns the seconds of its whole process, and its peak memory in MiB."""
    code = f"import sys; sys.argv[1:] = {list(words)}\nfrom hardness.cli import main\nmain()\n{_PEAK}"
    results = []

    def run() -> None:
        command = [sys.executable, "-c", code]
        results.append(subprocess.run(command, check=True, capture_output=True, text=True))

    taken = seconds(run)
    return taken, float(results[0].stdout.splitlines()[-1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--smoke", action="store_true", help="small sizes and few rounds, to check that it runs"
    )
    parser.add_argument("--runs", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    smoke = arguments.smoke
    num_examples, epochs = (2000, 9) if smoke else (IMAGENET, 90)
    print("# Cost of recording\n")
    print(f"`python -m tests.benchmarks.recorder`, {machine()} {_LEGEND}\n")

    print(f"## One batch, one thread, random examples out of {num_examples:,}\n")
    print("| classes | batch size | | µs | relative to loss and argmax | million examples/s |")
    print("| --: | --: | --- | --: | --: | --: |")
    all_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for num_classes, batch_size in itertools.product((10, 100, 1000), BATCHES):
        rows = update_rows(num_classes, batch_size, num_examples, rounds=1 if smoke else 15)
        print("\n".join(rows), flush=True)
    torch.set_num_threads(all_threads)

    print("\n## An epoch on the CPU\n")
    print("\n".join(epoch_lines(*(("small_cnn", 128, 1) if smoke else ("resnet18", 1024, 5)))), flush=True)
    print("\n## An epoch on a GPU\n")
    if torch.cuda.is_available():
        print(
            "\n".join(epoch_lines("resnet18", 8192, 5, device="cuda", size=224, batch_size=256)), flush=True
        )
    else:
        print("not measured")

    print("\n## Size on disk, and reading\n")
    print("| records | source | bytes per record |\n| --: | --- | --: |")
    for run in arguments.runs:
        config = json.loads((run / "run.json").read_text())["config"]
        num_records, size = bytes_per_record(run)
        what = f"{config['model']} on {Path(config['data']).name}, records of {config['record']} passes"
        print(f"| {num_records:,} | {what} | {size:.2f} |")
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        taken = generate(run, num_examples, epochs)
        num_records, size = bytes_per_record(run)
        print(f"| {num_records:,} | generated: {num_examples:,} examples, {epochs} epochs | {size:.2f} |\n")
        print(f"Generated and written in {taken:.0f} s.\n", flush=True)
        finish(run, num_examples)
        for words, what in (
            (["score"], f"all scores of {num_records:,} records"),
            (["split", "--quantile", "0.2"], f"{num_examples:,} examples"),
        ):
            taken, peak = hardness(*words, "--run", str(run))
            print(f"- `hardness {' '.join(words)}`, {what}: **{taken:.1f} s**, {peak:,.0f} MiB", flush=True)
        many = Path(folder) / "many"
        generate(many, num_examples, epochs // 9, num_parts=4)
        taken, peak = hardness("score", "--run", str(many))
        print(
            f"- `hardness score`, a ninth of these records in four parts per epoch, "
            f"each with random examples: **{taken:.1f} s**, {peak:,.0f} MiB"
        )


_LEGEND = """Values are medians; compared values were timed in turn.
The seconds of a command are those of the whole process, including interpreter start and imports."""


if __name__ == "__main__":
    main()

"""What recording costs: in time, in bytes, and to score afterwards.

    python -m tests.benchmarks.recorder [--smoke] [--runs RUN ...] > reports/benchmarks/recorder.md

``--runs``: tracked runs of real data, whose bytes are counted too. The package ``aum`` is compared where it
is installed. Writes 0.7 GB to the temporary folder, and removes them.
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
# Not getrusage's, which begins with what the parent had.
_PEAK = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"


def update_rows(num_classes: int, batch_size: int, num_examples: int, rounds: int) -> list[str]:
    """update() on one thread against loss and argmax alone, and against aum."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch_size, num_classes, generator=generator)
    labels = torch.randint(num_classes, (batch_size,), generator=generator)
    order = torch.randperm(num_examples, generator=generator)
    batches = order[: num_examples // batch_size * batch_size].view(-1, batch_size).unbind()
    coming = itertools.cycle(batches)

    def loss_and_argmax() -> None:
        F.cross_entropy(logits, labels, reduction="none")
        logits.argmax(1)

    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(folder, num_examples)
        works: dict[str, Callable] = {
            "loss and argmax": loss_and_argmax,
            "Recorder.update": lambda: recorder.update(next(coming), logits, labels),
        }
        if importlib.util.find_spec("aum"):
            from aum import AUMCalculator

            calculator = AUMCalculator(folder, compressed=True)
            works["aum"] = lambda: calculator.update(logits, labels, next(coming).tolist())
        found = in_turn(works, rounds, repeats=10)
    floor = found["loss and argmax"]
    return [
        f"| {num_classes:,} | {batch_size} | {name} | {1e6 * taken:.0f} | {taken / floor:.2f} | "
        f"{batch_size / taken / 1e6:.2f} |"
        for name, taken in found.items()
    ]


class Timed(Recorder):
    """Counts the seconds that a training loop spends in its calls."""

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
    """An epoch recorded in both modes, of a network on synthetic images."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (num_examples, 3, size, size), dtype=torch.uint8, generator=generator)
    images = in_memory(pixels, torch.randint(100, (num_examples,), generator=generator), "train")
    data = DataSet(
        images, images, [str(k) for k in range(100)], ImageAdapter((3, size, size), [0.5] * 3, [0.25] * 3)
    )
    place = torch.device(device)
    resources = Resources(place)
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
        timed = Timed(Path(folder) / "train", num_examples, place)
        plain = Recorder(Path(folder) / "eval", num_examples, place)
        works = {
            "tracked": partial(tracked, timed),
            "bare": bare_pass,
            "recorded": partial(recorded_pass, plain),
            "untracked": train,
        }
        found = in_turn(works, rounds, device=device)
        share = timed.spent / (rounds + 1) / found["tracked"]
    whole, bare = found["untracked"] + found["recorded"], found["untracked"] + found["bare"]
    return [
        f"{model_name}, {num_examples:,} images of {size} x {size}, 100 classes, {rounds} epochs in turn:\n",
        f"- records of the training pass: **{100 * share:.2f} %** of the epoch inside Recorder calls; "
        f"{found['tracked']:.2f} s tracked, {found['untracked']:.2f} s untracked, "
        f"{found['tracked'] / found['untracked']:.3f} x",
        f"- records of an evaluation pass: **{whole / bare:.3f}** x the time of training and a bare pass "
        f"({found['recorded']:.2f} s against {found['bare']:.2f} s for the pass alone)",
    ]


def generate(run: Path, num_examples: int, epochs: int, num_parts: int = 1) -> float:
    """Records as of a network that learns: labels in order, as in ImageNet's folders -> seconds taken.

    The margin of an example grows with the logarithm of the epoch, from a normal difficulty, with noise.
    Parts are as of training passes on many ranks: each has examples from everywhere.
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
                mine = table.filter(part == number) if num_parts > 1 else table
                store.write_part(run, epoch, mine, "generated", part=number, num_parts=num_parts)

    return seconds(write)


def finish(run: Path, num_examples: int) -> None:
    """What else of a tracked run `hardness split` reads."""
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


def bytes_a_record(run: Path) -> tuple[int, float]:
    parts = [
        part for epoch in store.recorded_epochs(run) for part in store.epoch_folder(run, epoch).iterdir()
    ]
    num_records = sum(pa.parquet.read_metadata(part).num_rows for part in parts)
    return num_records, sum(part.stat().st_size for part in parts) / num_records


def hardness(*words: str) -> tuple[float, float]:
    """A command -> its seconds, interpreter and imports included, and peak memory in MiB."""
    code = f"import sys; sys.argv[1:] = {list(words)}\nfrom hardness.cli import main\nmain()\n{_PEAK}"
    answers = []

    def run() -> None:
        command = [sys.executable, "-c", code]
        answers.append(subprocess.run(command, check=True, capture_output=True, text=True))

    taken = seconds(run)
    return taken, float(answers[0].stdout.splitlines()[-1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="small sizes and few rounds: does it run?")
    parser.add_argument("--runs", type=Path, nargs="*", default=[])
    arguments = parser.parse_args()
    smoke = arguments.smoke
    num_examples, epochs = (2000, 9) if smoke else (IMAGENET, 90)
    print("# What recording costs\n")
    print(f"`python -m tests.benchmarks.recorder`, {machine()} {_LEGEND}\n")

    print(f"## A batch, one thread, examples in random order out of {num_examples:,}\n")
    print("| classes | batch | | µs | x loss and argmax | million examples a second |")
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

    print("\n## On disk, and read again\n")
    print("| records | of | bytes a record |\n| --: | --- | --: |")
    for run in arguments.runs:
        config = json.loads((run / "run.json").read_text())["config"]
        num_records, size = bytes_a_record(run)
        what = f"{config['model']} on {Path(config['data']).name}, records of {config['record']} passes"
        print(f"| {num_records:,} | {what} | {size:.2f} |")
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        taken = generate(run, num_examples, epochs)
        num_records, size = bytes_a_record(run)
        print(f"| {num_records:,} | a generator: {num_examples:,} examples, {epochs} epochs | {size:.2f} |\n")
        print(f"Generated and written in {taken:.0f} s.\n", flush=True)
        finish(run, num_examples)
        for words, what in (
            (["score"], f"all scores of {num_records:,} records"),
            (["split", "--quantile", "0.2"], f"{num_examples:,} examples"),
        ):
            taken, peak = hardness(*words, "--run", str(run))
            print(f"- `hardness {' '.join(words)}`, {what}: **{taken:.1f} s**, {peak:,.0f} MiB", flush=True)
        many = Path(place) / "many"
        generate(many, num_examples, epochs // 9, num_parts=4)
        taken, peak = hardness("score", "--run", str(many))
        print(
            f"- `hardness score`, a ninth of that in four parts an epoch, examples in no order: "
            f"**{taken:.1f} s**, {peak:,.0f} MiB"
        )


_LEGEND = """Medians; what is compared was timed in turn. Seconds of
commands are of whole processes, interpreter and imports included."""


if __name__ == "__main__":
    main()

"""The cost of a report on runs of ImageNet's size: seconds, memory, bytes.

    python -m tests.benchmarks.report [--smoke] > reports/benchmarks/report.md

Three tracked runs of 1,281,167 generated examples of 1,000 classes, with records of ten epochs (two thousand
examples of 20 classes with ``--smoke``), are reported by ``hardness report`` in its own process. Writes
0.5 GB to the temporary folder, and removes them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from hardness import files
from hardness.dynamics import store
from hardness.dynamics.scores import scores
from hardness.runs.reading import read_info
from tests.benchmarks.timing import machine

IMAGENET, CLASSES, EPOCHS, SEEDS = 1_281_167, 1_000, 10, 3
_REPORT = """
import sys
from hardness.cli import main
try:
    main()
finally:
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print("peak", peak, file=sys.stderr)
"""


def generate(run: Path, seed: int, num_examples: int, num_classes: int) -> None:
    """Write a run folder as ``hardness track`` does; each example is learned after some epochs, or never."""
    generator = np.random.default_rng(seed)
    # The hardness of an example is similar in all runs.
    hardness = np.random.default_rng(0).exponential(3, num_examples) + generator.exponential(1, num_examples)
    labels = (np.arange(num_examples) * num_classes // num_examples).astype(np.int32)
    fingerprint = "generated-examples"
    log = []
    for epoch in range(1, EPOCHS + 1):
        loss = (hardness / epoch * generator.uniform(0.5, 1.5, num_examples)).astype(np.float16)
        is_correct = loss < 0.7
        wrong = (labels + 1 + generator.integers(num_classes - 1, size=num_examples)) % num_classes
        columns = {
            "example_id": np.arange(num_examples),
            "given_label": labels,
            "prediction": np.where(is_correct, labels, wrong).astype(np.int32),
            "loss": loss.astype(np.float32),
            "margin": (1 - loss).astype(np.float32),
            "el2n": np.minimum(loss, 1.4).astype(np.float32),
        }
        store.write_part(run, epoch, pa.table(columns, schema=store.SCHEMA), fingerprint)
        accuracy, mean = float(is_correct.mean()), float(loss.mean(dtype=np.float64))
        line = {"record_loss": mean, "record_top1": accuracy, "validation_loss": mean}
        log.append({"epoch": epoch, "train_loss": mean, **line, "validation_top1": accuracy})
    files.write_text(run / "log.jsonl", "".join(json.dumps(line) + "\n" for line in log))
    examples = pd.DataFrame({"example_id": np.arange(num_examples), "clean_label": labels})
    examples["key"] = [f"n{label:08}/n{label:08}_{number}.JPEG" for number, label in enumerate(labels)]
    examples = examples.assign(given_label=labels, is_corrupt=False, is_readable=True)
    files.write_table(run / "examples.parquet", examples, fingerprint)
    settings = {"last_epoch": EPOCHS, "asked": {}}
    files.write_table(run / "scores.parquet", scores(run, fingerprint), fingerprint, settings)
    files.write_json(
        run / "run.json",
        {
            "format_version": files.FORMAT_VERSION,
            "stage": "track",
            "seed": seed,
            "fingerprint": fingerprint,
            "record_mode": "eval",
            "status": "finished",
            "device": "generated",
            "config": {"data": "imagenet:generated", "model": "resnet18", "optimizer": "sgdm", "seed": seed}
            | {"noise": 0.0, "noise_seed": 0, "lr": 0.1, "batch_size": 256, "epochs": EPOCHS},
            "data": {
                "num_train": num_examples,
                "num_validation": 50_000,
                "class_names": [f"n{label:08}" for label in range(num_classes)],
                "image_shape": [3, 224, 224],
            },
            "versions": {},
            "git_commit": "",
            "times": {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-02T00:00:00+00:00"},
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true")
    smoke = parser.parse_args().smoke
    num_examples, num_classes = (2_000, 20) if smoke else (IMAGENET, CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder) / f"track-{seed}" for seed in range(SEEDS)]
        for seed, run in enumerate(runs):
            generate(run, seed, num_examples, num_classes)
            assert read_info(run)["seed"] == seed
        out = Path(folder) / "report"
        words = ["report", "--runs", *map(str, runs), "--out", str(out), "--no-images"]
        started = time.perf_counter()
        result = subprocess.run(
            [sys.executable, "-c", _REPORT, *words], capture_output=True, text=True, check=True
        )
        taken = time.perf_counter() - started
        peak = int(result.stderr.split()[-1]) / 2**20
        page = (out / "index.html").stat().st_size / 1e6
        sizes = [path.stat().st_size / 1e6 for path in (out / "figures").iterdir()]
    print(f"""# Cost of a report

`python -m tests.benchmarks.report`, {machine()}

`hardness report` of {SEEDS} runs of {num_examples:,} generated examples of {num_classes:,} classes,
{EPOCHS} epochs, without images. Time and memory are of the whole process.

| | |
| --- | ---: |
| seconds | {taken:.1f} |
| peak memory, GiB | {peak:.2f} |
| size of the page, MB | {page:.2f} |
| {len(sizes)} files of figures, total MB | {sum(sizes):.1f} |""")


if __name__ == "__main__":
    main()

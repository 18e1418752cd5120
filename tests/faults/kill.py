"""Kills `hardness track` at random moments, resumes it, and compares: python -m tests.faults.kill 50

Each time: wait until the first epoch is written, SIGKILL a moment later, look at what is there, resume.
The result must be that of the run that nobody killed, and no epoch that was recorded may be trained again
but the one whose checkpoint was missing.
"""

import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import torch

from hardness.dynamics.store import recorded_epochs
from hardness.stages.run_folder import read_log

EPOCHS = 80
COMMON = ("track", "--epochs", str(EPOCHS), "--schedule", "cosine", "--device", "cpu")
VARIANTS = (
    (),
    ("--optimizer", "rm3", "--record", "train"),
    ("--optimizer", "m3+adamw", "--lr", "0.001", "--noise", "0.3"),
)
ALONE = (sys.executable, "-m", "hardness")
TWO_RANKS = (
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node=2",
    "-m",
    "hardness",
)


def kill(command: Sequence[str], folder: Path, delay: float) -> bool:
    """Start, and kill ``delay`` seconds after the first epoch's records; False where it had ended before."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not recorded_epochs(folder):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(delay)
    # Its children as well, where it is torchrun.
    subprocess.run(["pkill", "-KILL", "--full", "--", f"--out {folder}"], check=False)
    return process.wait() == -signal.SIGKILL


def resume(command: Sequence[str], folder: Path) -> str:
    """Look at what the kill has left, and go on -> what was seen. Raises if a recorded epoch was lost."""
    for path in folder.rglob("*.parquet"):
        pq.read_table(path, partitioning=None)
    recorded = recorded_epochs(folder)[-1]
    answer = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=True)
    trained = [int(number) for number in re.findall(r"^epoch (\d+)/", answer.stdout, re.MULTILINE)]
    assert not trained or trained[0] >= recorded, (trained[0], recorded)
    begun = f"went on with epoch {trained[0]}" if trained else "had no epoch left"
    return f"killed after {recorded} epochs, {begun}"


def compare(folder: Path, whole: Path) -> None:
    """Parquet files byte for byte, the last checkpoint number by number, the log line by line."""
    names = sorted(path.relative_to(whole) for path in whole.rglob("*.parquet"))
    assert names == sorted(path.relative_to(folder) for path in folder.rglob("*.parquet"))
    assert len(names) >= EPOCHS
    for name in names:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    one, other = (torch.load(run / "checkpoints/last.pt", weights_only=True) for run in (folder, whole))
    assert one["epoch"] == other["epoch"] == EPOCHS
    for key, value in one["model"].items():
        assert torch.equal(value, other["model"][key]), key
    times = {"time", "seconds", "images_per_second", "loader_wait"}
    logs = [
        [{key: value for key, value in line.items() if key not in times} for line in read_log(run)]
        for run in (folder, whole)
    ]
    assert logs[0] == logs[1]
    assert not list(folder.rglob(".*.writing"))


def main(times: int, seed: int = 0, launch: Sequence[str] = ALONE, num_variants: int = 3) -> list[str]:
    generator = random.Random(seed)
    seen = []
    with tempfile.TemporaryDirectory() as place:
        durations = []
        for number, words in enumerate(VARIANTS[:num_variants]):
            whole = Path(place) / f"whole-{number}"
            command = [*launch, *COMMON, *words, "--out", str(whole)]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            while not recorded_epochs(whole):
                time.sleep(0.002)
            started = time.monotonic()
            assert process.wait() == 0
            durations.append(time.monotonic() - started)
        for number in range(times):
            variant = number % num_variants
            folder = Path(place) / f"killed-{number}"
            command = [*launch, *COMMON, *VARIANTS[variant], "--out", str(folder)]
            while not kill(command, folder, generator.uniform(0, 0.8 * durations[variant])):
                shutil.rmtree(folder)
            seen.append(resume(command, folder))
            compare(folder, Path(place) / f"whole-{variant}")
            print(f"{number + 1}/{times} {' '.join(VARIANTS[variant])}: {seen[-1]}", flush=True)
    return seen


if __name__ == "__main__":
    main(int(sys.argv[1]))

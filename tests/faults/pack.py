"""Kills `hardness pack` at random moments and gives it again: python -m tests.faults.pack 20

It must end with the bytes of the folder that nobody killed it over.
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import write_image

NUM_IMAGES = 400


def make_images(root: Path) -> None:
    for number in range(NUM_IMAGES):
        for part in ("train", "val") if number % 4 == 0 else ("train",):
            write_image(root / part / f"class{number % 5}" / f"{number}.png", number, (300, 280))


def command(root: Path, out: Path) -> list[str]:
    # Shards of 20 images, so that kills come between them as well.
    small = "import hardness.stages.pack as p; p._SHARD_BYTES = 20 * 3 * 64 * 64"
    words = ["pack", "--data", f"imagefolder:{root}", "--size", "64", "--workers", "2", "--out", str(out)]
    return [sys.executable, "-c", f"{small}; from hardness.cli import main; main()", *words]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def wait_for(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while not any(folder.glob(pattern)):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def main(times: int, seed: int = 0) -> list[str]:
    generator, seen = random.Random(seed), []
    with tempfile.TemporaryDirectory() as place:
        root, whole = Path(place) / "images", Path(place) / "whole"
        make_images(root)
        process = subprocess.Popen(command(root, whole), stdout=subprocess.DEVNULL)
        wait_for(whole, "*train*")
        started = time.monotonic()
        wait_for(whole, "pack.json")
        duration = time.monotonic() - started
        assert process.wait() == 0
        for number in range(times):
            out = Path(place) / f"killed-{number}"
            process = subprocess.Popen(
                command(root, out),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            wait_for(out, "*train*")
            time.sleep(generator.uniform(0, duration))
            subprocess.run(["pkill", "-KILL", "--session", str(process.pid)], check=False)
            process.wait()
            num_shards = len(list(out.glob("[tv]*.arrow")))
            begun = "had finished" if (out / "pack.json").exists() else f"killed after {num_shards} shards"
            subprocess.run(command(root, out), check=True, stdout=subprocess.DEVNULL)
            assert contents(out) == contents(whole), number
            seen.append(begun)
            print(f"{number + 1}/{times}: {begun}", flush=True)
    return seen


if __name__ == "__main__":
    main(int(sys.argv[1]))

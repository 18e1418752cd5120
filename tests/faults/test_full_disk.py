"""A disk that fills up: one clear line at once, and a run that goes on when there is room again."""

import resource
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from hardness import Recorder
from hardness.dynamics.store import read_epoch, recorded_epochs
from hardness.errors import UserError
from hardness.stages.pack import Pack, pack
from tests import processes
from tests.faults.kill import at_rename

WORDS = ("track", "--epochs", 4, "--out", "r")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of four megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> Path:
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


def test_the_recorder_says_so_at_the_next_call(small_disk):
    ids, labels = torch.arange(2000), torch.zeros(2000, dtype=torch.int64)
    recorder = Recorder(small_disk, 2000)
    recorder.update(ids, torch.randn(2000, 3), labels)
    recorder.end_epoch()
    recorder.flush()
    filler = fill(small_disk)
    recorder.update(ids, torch.randn(2000, 3), labels)
    recorder.end_epoch()

    def go_on():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            recorder.update(ids[:1], torch.randn(1, 3), labels[:1])

    with pytest.raises(UserError, match="No space left on device"):
        go_on()
    with pytest.raises(UserError, match="No space left"):
        recorder.close()
    assert recorded_epochs(small_disk) == [1]
    filler.unlink()
    with Recorder(small_disk, 2000, resume=True) as recorder:
        assert recorder.epoch == 2
        recorder.update(ids, torch.randn(2000, 3), labels)
        recorder.end_epoch()
    assert len(read_epoch(small_disk, 2).loss) == 2000


def assert_one_line(answer, reason):
    assert answer.status == 2, answer
    assert answer.err.startswith("hardness: "), answer
    assert answer.err.count("\n") == 1, answer
    assert reason in answer.err


def test_track_stops_with_one_line_and_resumes_when_there_is_room(small_disk, tmp_path):
    full = partial(at_rename, partial(fill, small_disk), "epoch=2/part", 1, "after")
    answer = processes.run(*WORDS, cwd=small_disk, env={"TMPDIR": str(tmp_path)}, before=full)
    assert_one_line(answer, "No space left on device")
    (small_disk / "filler").unlink()
    for folder, words in ((small_disk, [*WORDS, "--resume"]), (tmp_path, WORDS)):
        processes.run(*words, cwd=folder, check=True)
    for path in (tmp_path / "r").rglob("*.parquet"):
        assert path.read_bytes() == (small_disk / path.relative_to(tmp_path)).read_bytes()


@pytest.mark.parametrize("quota", [2_000, 100_000])
def test_track_stops_with_one_line_at_a_file_size_limit(tmp_path, quota):
    """Needs no root: tables are too large for the one, checkpoints for the other."""
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (quota, quota))
    answer = processes.run(*WORDS, cwd=tmp_path, env={"TMPDIR": str(tmp_path)}, before=limit)
    assert_one_line(answer, "File too large")
    assert not list((tmp_path / "r").rglob("*.pt"))


def test_packing_stops_with_one_line_and_resumes_when_there_is_room(small_disk, tmp_path):
    filler = fill(small_disk)
    with filler.open("r+b") as file:
        # Room for one of the two shards.
        file.truncate(filler.stat().st_size - 60_000)
    words = ["pack", "--data", "digits", "--workers", 0, "--out", small_disk / "p"]
    assert_one_line(processes.run(*words, cwd=tmp_path), "No space left on device")
    assert not (small_disk / "p/pack.json").exists()
    filler.unlink()
    folders = [pack(Pack(workers=0, out=out)) for out in (small_disk / "p", tmp_path / "whole")]
    contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert contents[0] == contents[1]
    assert sorted(contents[0]) == ["pack.json", "train-00000.arrow", "val-00000.arrow"]


def test_packing_stops_with_one_line_at_a_file_size_limit(tmp_path):
    """Needs no root."""
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (50_000, 50_000))
    answer = processes.run("pack", "--data", "digits", "--out", "p", cwd=tmp_path, before=limit)
    assert_one_line(answer, "File too large")
    assert not list((tmp_path / "p").glob("*.arrow"))

"""Readers wait for what a Recorder is still writing, and get over one that was killed or has failed."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.dataset
import pytest

from hardness import Recorder, scores
from hardness.dynamics import marker, store
from hardness.errors import UserError
from tests.dynamics.feed import feed

SLOW = """if True:
    import sys, time
    from hardness import Recorder
    from hardness.dynamics import store
    from tests.dynamics.feed import feed

    write, seconds = store.write_part, float(sys.argv[1])
    recorder = Recorder("run", 3)
    feed(recorder, range(3))
    recorder.end_epoch()
    recorder.flush()
    store.write_part = lambda *args, **kwargs: (time.sleep(seconds), write(*args, **kwargs))
    feed(recorder, range(3))
    recorder.end_epoch()
    print("ended", flush=True)
    recorder.close()
"""
READ = """if True:
    from pathlib import Path
    from hardness.dynamics import store
    print(store.recorded_epochs(Path("run")))
"""


@pytest.fixture
def slow_write(monkeypatch):
    """Every part takes half a second."""
    write = store.write_part

    def wait_and_write(*args, **kwargs):
        time.sleep(0.5)
        write(*args, **kwargs)

    monkeypatch.setattr(store, "write_part", wait_and_write)


def end_epoch(recorder: Recorder) -> None:
    feed(recorder, range(3))
    recorder.end_epoch()


def start_slow(folder, seconds: float) -> subprocess.Popen:
    """A process whose second epoch has ended and is being written."""
    command = [sys.executable, "-c", SLOW, str(seconds)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ended\n"
    return process


@pytest.mark.usefixtures("slow_write")
def test_scores_right_after_an_epoch_have_it(tmp_path):
    with Recorder(tmp_path, 3) as recorder:
        for epoch in (1, 2):
            end_epoch(recorder)
            assert store.recorded_epochs(tmp_path) == list(range(1, epoch + 1))
        end_epoch(recorder)
        # The window says that the third epoch is there.
        assert len(scores(tmp_path, names=["el2n_1_3"])) == 3
    assert not list(tmp_path.glob("dynamics/.*"))


@pytest.mark.usefixtures("slow_write")
def test_a_single_epoch_is_waited_for(tmp_path):
    with Recorder(tmp_path, 3) as recorder:
        end_epoch(recorder)
        assert store.read_epoch(tmp_path, 1).loss.shape == (3,)


@pytest.mark.usefixtures("slow_write")
def test_earlier_epochs_are_read_without_waiting(tmp_path):
    with Recorder(tmp_path, 3) as recorder:
        end_epoch(recorder)
        recorder.flush()
        end_epoch(recorder)
        store.read_epoch(tmp_path, 1)
        assert list(tmp_path.glob("dynamics/.epoch=2-part-0.writing"))


@pytest.mark.usefixtures("slow_write")
def test_another_process_waits_as_well(tmp_path):
    with Recorder(tmp_path / "run", 3) as recorder:
        end_epoch(recorder)
        command = [sys.executable, "-c", READ]
        told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (told.stdout, told.stderr) == ("[1]\n", "")


def test_another_process_is_waited_for(tmp_path, capfd):
    with start_slow(tmp_path, 1) as process:
        assert store.recorded_epochs(tmp_path / "run") == [1, 2]
    assert process.returncode == 0
    assert capfd.readouterr().err == ""


def test_an_epoch_whose_writer_was_killed_is_skipped_with_one_warning(tmp_path, capfd):
    with start_slow(tmp_path, 600) as process:
        process.kill()
    run = tmp_path / "run"
    assert len(scores(run)) == 3
    assert store.recorded_epochs(run) == [1]
    warning = f"warning: epoch 2 in {run} was not written completely and is skipped\n"
    assert capfd.readouterr().err == warning
    # It is made again, and then there is nothing left to warn of.
    with Recorder(run, 3, resume=True) as recorder:
        assert recorder.epoch == 2
        end_epoch(recorder)
    assert store.recorded_epochs(run) == [1, 2]
    assert not list(run.glob("dynamics/.*"))


def test_an_epoch_that_could_not_be_written_is_skipped(tmp_path, capfd, monkeypatch):
    recorder = Recorder(tmp_path, 3)
    end_epoch(recorder)
    recorder.flush()

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "write_part", fail)
    end_epoch(recorder)
    assert store.recorded_epochs(tmp_path) == [1]
    assert "epoch 2 " in capfd.readouterr().err
    with pytest.raises(UserError, match="No space left"):
        recorder.close()


def test_parts_of_every_rank_are_waited_for(tmp_path):
    """One rank has written its part, the other hasn't yet."""
    folder = tmp_path / "dynamics"
    folder.mkdir()
    store.write_part(tmp_path, 1, store.SCHEMA.empty_table(), "", part=0, num_parts=2)
    may_write = threading.Event()

    def write():
        with marker.writing(folder, 1, 1):
            is_marked.set()
            may_write.wait(60)
            store.write_part(tmp_path, 1, store.SCHEMA.empty_table(), "", part=1, num_parts=2)

    is_marked = threading.Event()
    writer = threading.Thread(target=write)
    writer.start()
    is_marked.wait(60)
    threading.Timer(0.3, may_write.set).start()
    assert store.is_whole(tmp_path, 1)
    writer.join()


def test_an_epoch_that_lacks_the_part_of_one_rank_is_skipped(tmp_path):
    for epoch in (1, 2):
        store.write_part(tmp_path, epoch, store.SCHEMA.empty_table(), "", part=0, num_parts=2)
    for part in (0, 1):
        (tmp_path / f"dynamics/.epoch=2-part-{part}.writing").touch()
    assert store.recorded_epochs(tmp_path) == [1]
    # What was killed after its part was in place has written it.
    store.write_part(tmp_path, 2, store.SCHEMA.empty_table(), "", part=1, num_parts=2)
    assert store.recorded_epochs(tmp_path) == [1, 2]


def test_a_recorder_clears_what_was_left_of_every_rank(tmp_path, capfd):
    with Recorder(tmp_path, 3) as recorder:
        end_epoch(recorder)
    for name in ("part-0.writing", "part-1.writing", "part-1.locking"):
        (tmp_path / f"dynamics/.epoch=2-{name}").touch()
    Recorder(tmp_path, 3, resume=True, last_epoch=1).close()
    assert [path.name for path in (tmp_path / "dynamics").iterdir()] == ["epoch=1"]
    assert "epoch 2 " in capfd.readouterr().err


def test_a_forked_worker_does_not_hold_up_readers(tmp_path):
    """A DataLoader's has the same open file, and may outlive the writing: so does a duplicate."""
    with marker.writing(tmp_path, 1, 0):
        (path,) = tmp_path.iterdir()
        descriptors = {os.path.realpath(each): int(each.name) for each in Path("/proc/self/fd").iterdir()}
        inherited = os.dup(descriptors[str(path)])
        reader = path.open()
    fcntl.flock(reader, fcntl.LOCK_SH | fcntl.LOCK_NB)
    reader.close()
    os.close(inherited)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_recorded_to(tmp_path, monkeypatch, number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with Recorder(tmp_path, 3) as recorder:
        end_epoch(recorder)
    assert store.recorded_epochs(tmp_path) == [1]
    assert not list(tmp_path.glob("dynamics/.*"))


def test_a_marker_that_cannot_be_made_is_told_at_once(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOSPC, "No space left on device")

    recorder = Recorder(tmp_path, 3)
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match="No space left"):
        end_epoch(recorder)


def test_other_readers_do_not_see_markers(tmp_path):
    with Recorder(tmp_path, 3) as recorder:
        end_epoch(recorder)
    (tmp_path / "dynamics/.epoch=2-part-0.writing").touch()
    (tmp_path / "dynamics/.epoch=2-part-0.locking").touch()
    assert len(pd.read_parquet(tmp_path / "dynamics")) == 3
    assert pyarrow.dataset.dataset(tmp_path / "dynamics", partitioning="hive").count_rows() == 3
    for pattern in ("*/*.parquet", "**/*.parquet"):
        glob = f"'{tmp_path}/dynamics/{pattern}', hive_partitioning = true"
        assert len(duckdb.sql(f"select * from read_parquet({glob})").df()) == 3

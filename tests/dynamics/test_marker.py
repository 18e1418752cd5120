"""Readers wait for what a Recorder is still writing, and skip epochs whose writer was killed or failed."""

import errno
import fcntl
import functools
import os
import signal
import threading
import time
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.dataset
import pytest

from hardness import Recorder, scores
from hardness.dynamics import marker, store
from tests import processes
from tests.conftest import refused
from tests.dynamics import slow
from tests.dynamics.feed import feed


@pytest.fixture
def slow_write(monkeypatch):
    """Every part takes a fifth of a second."""
    write = store.write_part

    def wait_and_write(*args, **kwargs):
        time.sleep(0.2)
        write(*args, **kwargs)

    monkeypatch.setattr(store, "write_part", wait_and_write)


def end_epoch(recorder: Recorder) -> None:
    feed(recorder, range(3))
    recorder.end_epoch()


def start_slow(folder: Path, seconds: float) -> processes.Started:
    """A process whose second epoch has ended and is being written."""
    process = processes.Started(functools.partial(slow.write, seconds), folder, os.environ)
    while not (folder / "ended").exists():
        assert process.poll() is None, process.wait()
        time.sleep(0.01)
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


def test_another_process_waits_as_well(tmp_path, monkeypatch):
    write = store.write_part

    def write_after_the_reader_has_started(*args, **kwargs):
        while not (tmp_path / "reading").exists():
            time.sleep(0.01)
        time.sleep(0.1)
        write(*args, **kwargs)

    monkeypatch.setattr(store, "write_part", write_after_the_reader_has_started)
    with Recorder(tmp_path / "run", 3) as recorder:
        end_epoch(recorder)
        assert processes.Started(slow.read, tmp_path, os.environ).wait() == (0, "[1]\n", "")


def test_a_writer_in_another_process_is_waited_for(tmp_path, capfd):
    process = start_slow(tmp_path, 0.3)
    assert store.recorded_epochs(tmp_path / "run") == [1, 2]
    assert process.wait() == (0, "", "")
    assert capfd.readouterr().err == ""


def test_an_epoch_whose_writer_was_killed_is_skipped_with_one_warning(tmp_path, capfd):
    process = start_slow(tmp_path, 600)
    process.send_signal(signal.SIGKILL)
    assert process.wait().status == -signal.SIGKILL
    run = tmp_path / "run"
    assert len(scores(run)) == 3
    assert store.recorded_epochs(run) == [1]
    (warning,) = capfd.readouterr().err.splitlines()
    assert warning.startswith(f"warning: epoch 2 in {run} ")
    # Recorded again, it is complete.
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
    with refused("cannot-write-records", reason="[Errno 28] No space left on device"):
        recorder.close()


def test_parts_of_every_rank_are_waited_for(tmp_path):
    """One rank has written its part, the other has not yet."""
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
    threading.Timer(0.1, may_write.set).start()
    assert store.is_whole(tmp_path, 1)
    writer.join()


def test_an_epoch_that_lacks_the_part_of_one_rank_is_skipped(tmp_path):
    for epoch in (1, 2):
        store.write_part(tmp_path, epoch, store.SCHEMA.empty_table(), "", part=0, num_parts=2)
    for part in (0, 1):
        (tmp_path / f"dynamics/.epoch=2-part-{part}.writing").touch()
    assert store.recorded_epochs(tmp_path) == [1]
    # A writer that was killed after it had renamed its part has written it.
    store.write_part(tmp_path, 2, store.SCHEMA.empty_table(), "", part=1, num_parts=2)
    assert store.recorded_epochs(tmp_path) == [1, 2]


def test_a_recorder_removes_the_leftover_markers_of_every_rank(tmp_path, capfd):
    with Recorder(tmp_path, 3) as recorder:
        end_epoch(recorder)
    for name in ("part-0.writing", "part-1.writing", "part-1.locking"):
        (tmp_path / f"dynamics/.epoch=2-{name}").touch()
    Recorder(tmp_path, 3, resume=True, last_epoch=1).close()
    assert [path.name for path in (tmp_path / "dynamics").iterdir()] == ["epoch=1"]
    assert "epoch 2 " in capfd.readouterr().err


def test_a_forked_worker_does_not_block_readers(tmp_path):
    """A DataLoader worker inherits the open file and may outlive the write: so does a duplicate here."""
    with marker.writing(tmp_path, 1, 0):
        (path,) = tmp_path.iterdir()
        descriptors = {os.path.realpath(each): int(each.name) for each in Path("/proc/self/fd").iterdir()}
        inherited = os.dup(descriptors[str(path)])
        reader = path.open()
    fcntl.flock(reader, fcntl.LOCK_SH | fcntl.LOCK_NB)
    reader.close()
    os.close(inherited)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_recording_on_a_file_system_without_locks(tmp_path, monkeypatch, number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with Recorder(tmp_path, 3) as recorder:
        end_epoch(recorder)
    assert store.recorded_epochs(tmp_path) == [1]
    assert not list(tmp_path.glob("dynamics/.*"))


def test_a_marker_that_cannot_be_created_is_an_error_at_once(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOSPC, "No space left on device")

    recorder = Recorder(tmp_path, 3)
    monkeypatch.setattr(fcntl, "flock", flock)
    with refused("cannot-write-records", reason="[Errno 28] No space left on device"):
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

import threading

import numpy as np
import pytest

from hardness import Recorder
from hardness.dynamics import store
from tests.conftest import refused
from tests.dynamics.feed import feed


def test_a_failed_write_is_raised_by_the_next_call_and_all_later_ones(tmp_path):
    recorder = Recorder(tmp_path, 3)
    (tmp_path / "dynamics/epoch=1").write_text("in the way")
    feed(recorder, range(3))
    recorder.end_epoch()
    with refused("cannot-write-records", folder=str(tmp_path / "dynamics")) as caught:
        recorder.flush()
    assert "File exists" in caught.value.values["reason"]
    for call in (lambda: feed(recorder, range(3)), recorder.end_epoch, recorder.close):
        with refused("cannot-write-records"):
            call()


def test_a_failed_write_does_not_hide_the_error_of_the_loop(tmp_path):
    recorder = Recorder(tmp_path, 3)
    (tmp_path / "dynamics/epoch=1").write_text("in the way")

    def fail():
        with recorder:
            feed(recorder, range(3))
            recorder.end_epoch()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as raised:
        fail()
    assert "File exists" in raised.value.__notes__[0]


def test_a_failed_write_without_a_later_call_is_a_warning_at_the_end(tmp_path, capfd):
    recorder = Recorder(tmp_path, 3)
    (tmp_path / "dynamics/epoch=1").write_text("in the way")
    feed(recorder, range(3))
    recorder.end_epoch()
    # The interpreter calls it at exit.
    assert recorder._writer._at_exit.atexit
    recorder._writer._at_exit()
    (warning,) = capfd.readouterr().err.splitlines()
    assert warning.startswith("warning: ")
    assert warning.endswith("[cannot-write-records]")
    assert str(tmp_path / "dynamics") in warning


def test_training_continues_while_an_epoch_is_written(tmp_path, monkeypatch):
    write, may_write = store.write_part, threading.Event()

    def wait_and_write(*args, **kwargs):
        assert may_write.wait(60)
        write(*args, **kwargs)

    monkeypatch.setattr(store, "write_part", wait_and_write)
    with Recorder(tmp_path, 3) as recorder:
        feed(recorder, range(3))
        recorder.end_epoch()
        feed(recorder, [2, 1, 0])
        assert not list(tmp_path.rglob("*.parquet"))
        may_write.set()
        recorder.flush()
        assert store.recorded_epochs(tmp_path) == [1]
        recorder.end_epoch()
    assert store.recorded_epochs(tmp_path) == [1, 2]
    one, two = (store.read_epoch(tmp_path, epoch) for epoch in (1, 2))
    assert not np.array_equal(one.loss, two.loss)

import subprocess
import sys
import threading

import numpy as np
import pytest

from hardness import Recorder
from hardness.dynamics import store
from hardness.errors import UserError
from tests.dynamics.feed import feed


def test_what_could_not_be_written_is_raised_by_the_next_call_and_the_ones_after(tmp_path):
    recorder = Recorder(tmp_path, 3)
    (tmp_path / "dynamics/epoch=1").write_text("in the way")
    feed(recorder, range(3))
    recorder.end_epoch()
    with pytest.raises(UserError, match=r"to write records to .*dynamics; found .*File exists"):
        recorder.flush()
    for call in (lambda: feed(recorder, range(3)), recorder.end_epoch, recorder.close):
        with pytest.raises(UserError, match="to write records"):
            call()


def test_a_failed_write_does_not_hide_what_went_wrong_before(tmp_path):
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


def test_a_failed_write_that_no_call_follows_is_said_at_the_end(tmp_path):
    code = """if True:
        import torch
        from hardness import Recorder
        recorder = Recorder("r", 3)
        open("r/dynamics/epoch=1", "w").close()
        recorder.update(torch.arange(3), torch.randn(3, 2), torch.zeros(3, dtype=torch.int64))
        recorder.end_epoch()
    """
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert told.stderr.startswith("warning: expected to write records to r/dynamics; found ")
    assert told.stderr.count("\n") == 1


def test_training_goes_on_while_an_epoch_is_written(tmp_path, monkeypatch):
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

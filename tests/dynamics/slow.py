"""What the processes of test_marker.py do: write epochs slowly, or read them."""

import time
from pathlib import Path

from hardness import Recorder
from hardness.dynamics import store
from tests.dynamics.feed import feed


def write(seconds: float) -> None:
    """Record two epochs in ./run; the second takes ``seconds`` to write, after ./ended is created."""
    write_part = store.write_part
    recorder = Recorder("run", 3)
    feed(recorder, range(3))
    recorder.end_epoch()
    recorder.flush()
    store.write_part = lambda *args, **kwargs: (time.sleep(seconds), write_part(*args, **kwargs))
    feed(recorder, range(3))
    recorder.end_epoch()
    Path("ended").touch()
    recorder.close()


def read() -> None:
    """Print the recorded epochs of ./run, after ./reading is created."""
    Path("reading").touch()
    print(store.recorded_epochs(Path("run")))

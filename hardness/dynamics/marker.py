"""Markers of parts that are being written: hidden files next to the epochs, locked during the write.

Readers wait for the lock. The system releases it when the process ends, so a marker that is left behind
means that its part was not written completely.
"""

import errno
import fcntl
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from hardness.console import remark

_QUIET_TRIES = 300
"""Attempts to lock, one per 10 ms, before a reader prints that it waits."""
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


@contextmanager
def writing(folder: Path, epoch: int, part: int) -> Iterator[None]:
    """Readers wait until the block ends. If it raises, the part counts as incomplete."""
    path = folder / f".epoch={epoch}-part-{part}.writing"
    locking = path.with_suffix(".locking")
    with locking.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            locking.unlink()
            if error.errno not in _NO_LOCKS:
                raise
            # Some clusters' file systems have no locks: readers do not wait.
            yield
            return
        # Renamed only after it is locked, so that no reader finds it unlocked.
        locking.replace(path)
        try:
            yield
            path.unlink(missing_ok=True)
        finally:
            # Closing is not enough: forked DataLoader workers have inherited the descriptor.
            fcntl.flock(file, fcntl.LOCK_UN)


def wait_for_writers(folder: Path, epoch: int | None = None) -> set[int]:
    """Wait until no part of the epoch (of any epoch by default) is being written -> the incomplete epochs.

    An epoch is incomplete if the writer of one of its parts failed or was killed.
    """
    incomplete = set()
    for path in folder.glob(f".epoch={'*' if epoch is None else epoch}-part-*.writing"):
        try:
            with path.open() as file:
                _wait(file, path)
        except OSError:
            # The write has just ended, or this file system has no locks.
            continue
        found, part = re.findall(r"\d+", path.name)
        if path.exists() and not (folder / f"epoch={found}" / f"part-{part}.parquet").exists():
            incomplete.add(int(found))
    return incomplete


def _wait(file: IO, path: Path) -> None:
    """Also waits for a writer in this process, which has opened the file separately."""
    for _ in range(_QUIET_TRIES):
        with suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        time.sleep(0.01)
    remark(f"waiting for records to be written: {path}")
    fcntl.flock(file, fcntl.LOCK_SH)


def clear(folder: Path) -> None:
    """Remove markers left behind by writers that failed or were killed."""
    for path in folder.glob(".epoch=*-part-*.*ing"):
        path.unlink(missing_ok=True)

"""Which parts are being written now: for each a hidden file beside the epochs, locked as long as that lasts.

Readers wait for the lock. It ends with the process that holds it, so a file that stays behind says that its
part was not written completely.
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

_PATIENCE = 300
"""Hundredths of a second after which we say that we wait."""
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


@contextmanager
def writing(folder: Path, epoch: int, part: int) -> Iterator[None]:
    """Readers wait until this ends. If it ends with an error, the part counts as not written completely."""
    path = folder / f".epoch={epoch}-part-{part}.writing"
    locking = path.with_suffix(".locking")
    with locking.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            locking.unlink()
            if error.errno not in _NO_LOCKS:
                raise
            # As on some clusters' file systems: readers don't wait.
            yield
            return
        # Only now, so that no reader finds it without its lock.
        locking.replace(path)
        try:
            yield
            path.unlink(missing_ok=True)
        finally:
            # Closing is not enough: forked workers of a DataLoader have inherited the descriptor.
            fcntl.flock(file, fcntl.LOCK_UN)


def wait_for_writers(folder: Path, epoch: int | None = None) -> set[int]:
    """Return when no part is being written, of this epoch or of any -> the epochs that lack one.

    Those are the epochs whose writer failed or was killed.
    """
    incomplete = set()
    for path in folder.glob(f".epoch={'*' if epoch is None else epoch}-part-*.writing"):
        try:
            with path.open() as file:
                _wait(file, path)
        except OSError:
            # Written and gone meanwhile; or there are no locks on this machine.
            continue
        found, part = re.findall(r"\d+", path.name)
        if path.exists() and not (folder / f"epoch={found}" / f"part-{part}.parquet").exists():
            incomplete.add(int(found))
    return incomplete


def _wait(file: IO, path: Path) -> None:
    """For this process too, whose writer has opened the file by itself."""
    for _ in range(_PATIENCE):
        with suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        time.sleep(0.01)
    remark(f"waiting for records to be written: {path}")
    fcntl.flock(file, fcntl.LOCK_SH)


def clear(folder: Path) -> None:
    """Remove what writers that failed or were killed have left."""
    for path in folder.glob(".epoch=*-part-*.*ing"):
        path.unlink(missing_ok=True)

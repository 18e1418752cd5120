"""Kills a process that runs `hardness pack` when it renames its n-th file."""

import os
import signal
from pathlib import Path

from hardness.stages import pack

SHARD_BYTES = 5 * 3 * 12 * 12
"""Shards of five images of 12 x 12 pixels."""


def kill_at(number: int, is_renamed: bool) -> None:
    """SIGKILL this process just after rename ``number``, or before it, with half of the file written."""
    pack._SHARD_BYTES = SHARD_BYTES
    rename, num_renamed = os.replace, 0

    def replace(source, target):
        nonlocal num_renamed
        num_renamed += 1
        if num_renamed < number:
            return rename(source, target)
        if is_renamed:
            rename(source, target)
        else:
            os.truncate(source, Path(source).stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace

"""Writing in the background while training continues."""

import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa

from hardness.console import warn
from hardness.dynamics import marker
from hardness.errors import UserError


class Writer:
    """Writes to ``folder`` in a background thread, one part at a time.

    If a write fails, the next call and every later call raise its error. If no call follows, the error is
    printed on stderr when the program ends.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hardness-writer")
        self._writing: Future | None = None
        self._is_closed = False

    def mark(self, epoch: int, part: int) -> ExitStack:
        """Wait for earlier writes; then readers wait for this part until the returned context is closed."""
        self.wait()
        try:
            mark = ExitStack()
            mark.enter_context(marker.writing(self.folder, epoch, part))
            return mark
        except OSError as error:
            raise write_failure(self.folder, error) from error

    def start(self, write: Callable[..., None], *arguments: Any) -> None:
        """Start a write after the previous one has ended."""
        self.wait()
        self._writing = self._thread.submit(write, *arguments)
        self._at_exit = weakref.finalize(self, _warn_if_failed, self.folder, self._writing)

    def check(self) -> None:
        """Raise the error of a failed write; never waits. Raises ``RuntimeError`` after ``close()``."""
        if self._is_closed:
            raise RuntimeError(f"the recorder of {self.folder} is closed")
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Wait until all is written."""
        if self._writing is None:
            return
        try:
            self._writing.result()
        except (OSError, pa.ArrowException) as error:
            raise write_failure(self.folder, error) from error
        finally:
            self._at_exit.detach()

    def close(self) -> None:
        try:
            self.wait()
            self._is_closed = True
        finally:
            self._thread.shutdown()


def write_failure(
    folder: Path,
    error: BaseException,
    hint: str = "Check free space and permissions there, then resume the run.",
) -> UserError:
    sentence = "Cannot write records to {folder}: {reason}."
    return UserError("cannot-write-records", sentence, hint, folder=str(folder), reason=str(error))


def _warn_if_failed(folder: Path, writing: Future) -> None:
    if error := writing.exception():
        warn(str(write_failure(folder, error)))

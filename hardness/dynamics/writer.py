"""Writing while training goes on."""

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
    """Writes to ``folder`` in a thread of its own, one thing at a time.

    What went wrong there is raised by the next call, whichever it is, and by every call after it. Where no
    call follows, it is said on stderr when the program ends.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hardness-writer")
        self._writing: Future | None = None
        self._is_closed = False

    def mark(self, epoch: int, part: int) -> ExitStack:
        """Once what came before is written: let readers wait for this part, until the context ends."""
        self.wait()
        try:
            mark = ExitStack()
            mark.enter_context(marker.writing(self.folder, epoch, part))
            return mark
        except OSError as error:
            raise _failure(self.folder, error) from error

    def start(self, write: Callable[..., None], *arguments: Any) -> None:
        """Begin to write, after what is being written now."""
        self.wait()
        self._writing = self._thread.submit(write, *arguments)
        self._unheard = weakref.finalize(self, _tell, self.folder, self._writing)

    def check(self) -> None:
        """Raise what went wrong, if anything has; never waits. Raises ``RuntimeError`` once it is closed."""
        if self._is_closed:
            raise RuntimeError(f"the recorder of {self.folder} is closed")
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Return when all is written."""
        if self._writing is None:
            return
        try:
            self._writing.result()
        except (OSError, pa.ArrowException) as error:
            raise _failure(self.folder, error) from error
        finally:
            self._unheard.detach()

    def close(self) -> None:
        try:
            self.wait()
            self._is_closed = True
        finally:
            self._thread.shutdown()


def _failure(folder: Path, error: BaseException) -> UserError:
    do = "see to room and rights there, then go on with resume"
    return UserError(f"to write records to {folder}", str(error), do)


def _tell(folder: Path, writing: Future) -> None:
    if error := writing.exception():
        warn(str(_failure(folder, error)))

"""Writing while training goes on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from hardness.errors import UserError


class Writer:
    """Writes to ``folder`` in a thread of its own, one thing at a time.

    What went wrong there is raised by the next call, whichever it is, and by every call after it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hardness-writer")
        self._writing: Future | None = None

    def start(self, write: Callable[..., None], *arguments: Any) -> None:
        """Begin to write, after what is being written now."""
        self.wait()
        self._writing = self._thread.submit(write, *arguments)

    def check(self) -> None:
        """Raise what went wrong, if anything has; never waits."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Return when all is written."""
        if self._writing is None:
            return
        try:
            self._writing.result()
        except (OSError, pa.ArrowException) as error:
            do = "see to room and rights there, then go on with resume"
            raise UserError(f"to write records to {self.folder}", str(error), do) from error

    def close(self) -> None:
        try:
            self.wait()
        finally:
            self._thread.shutdown()

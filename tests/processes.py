"""The command line, and ranks, in processes of their own that start in milliseconds.

They are forked from a server that has imported torch and every stage (multiprocessing's fork server), and run
``hardness.cli.main`` as ``python -m hardness`` does. A few tests in ``tests/system`` start the real thing.
"""

import functools
import importlib
import io
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import NamedTuple

_CONTEXT = multiprocessing.get_context("forkserver")


def start_server() -> None:
    """Start it from the repository's folder: what it imports is found from there."""
    _CONTEXT.set_forkserver_preload(["tests.preloaded"])
    forkserver.ensure_running()


class Answer(NamedTuple):
    status: int
    out: str
    err: str


class Started:
    """A process at work, its output in files, so that it never waits for a reader."""

    def __init__(self, target: Callable[[], None], cwd: Path, environment: Mapping[str, str]):
        self._output = tempfile.TemporaryDirectory()
        self._paths = [Path(self._output.name, name) for name in ("out", "err")]
        arguments = (target, str(cwd), dict(environment), [str(path) for path in self._paths])
        self._process = _CONTEXT.Process(target=_run, args=arguments)
        self._process.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = 120) -> Answer:
        """Raises ``TimeoutError`` where it takes longer; the process is gone then, too."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError(f"still at work after {timeout} s: {self._read()}")
        out, err = self._read()
        self._output.cleanup()
        return Answer(self._process.exitcode, out, err)

    def _read(self) -> list[str]:
        return [path.read_text() if path.exists() else "" for path in self._paths]


def start(
    *words,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> Started:
    """``hardness WORDS`` in a process of its own; ``before`` (picklable) is called in it first."""
    return Started(command_of(*words, before=before), cwd, {**os.environ, **(env or {})})


def run(*words, cwd: Path, check: bool = False, timeout: float = 120, **options) -> Answer:
    """``hardness WORDS``, to its end. check: raise ``AssertionError`` unless its status is 0."""
    answer = start(*words, cwd=cwd, **options).wait(timeout)
    assert not check or answer.status == 0, answer
    return answer


def start_ranks(num_ranks: int, target: Callable[[], None], cwd: Path) -> list[Started]:
    """``target`` (picklable) in each of several processes, with the environment that torchrun gives them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_WORLD_SIZE": str(num_ranks),
    }
    return [
        Started(target, cwd, {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(num_ranks)
    ]


def run_ranks(num_ranks: int, target: Callable[[], None], cwd: Path, check: bool = True) -> list[Answer]:
    """To their end. check: raise ``AssertionError`` unless every status is 0."""
    answers = [each.wait() for each in start_ranks(num_ranks, target, cwd)]
    assert not check or all(answer.status == 0 for answer in answers), answers
    return answers


def command_of(*words, before: Callable[[], None] | None = None) -> Callable[[], None]:
    """``hardness WORDS`` as a target of ``start_ranks``."""
    return functools.partial(_command_line, [str(word) for word in words], before)


def main_of(module: str, *words) -> Callable[[], None]:
    """``module.main(*words)`` as a target of ``start_ranks``."""
    return functools.partial(_main_of, module, words)


def _main_of(module: str, words: Sequence) -> None:
    importlib.import_module(module).main(*words)


def _command_line(words: Sequence[str], before: Callable[[], None] | None = None) -> None:
    from hardness.cli import main

    if before is not None:
        before()
    sys.argv = ["hardness", *words]
    main()


def _run(target: Callable[[], None], cwd: str, environment: dict[str, str], outputs: Sequence[str]) -> None:
    for number, path in enumerate(outputs, start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.FileIO(number, "w", closefd=False), write_through=True, encoding="utf-8")
        for number in (1, 2)
    )
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    # Whoever starts the tests in a shell's background lets them ignore it, and they would hand that on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    target()

"""Runs a program in a child process: requests go to it line by line, and it answers with JSON documents, one a line.

``certify``, ``bench``, ``gate`` and ``mutants`` share this protocol. The answers have a pipe of their own, whose file
descriptor is the last argument of the command, so that nothing that the child prints can be taken for an answer:
its stdout and stderr both go to this process's stderr.
"""

import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, Final, Self

from deeplab_spec.errors import ChildError

Document = dict[str, Any]

PASSIVE: Final = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Environment of a child whose threads sleep while they wait: threads that spin slow down other processes."""

_ADDED: Final[set[str]] = {"TORCHINDUCTOR_CACHE_DIR"} - os.environ.keys()
"""Variables that foreign code does not get: this process set them, or the compiler of its PyTorch."""

_ALLOCATOR: Final = ((-3, 2**25), (-1, 2**31 - 1), (-8, 1))
"""Options of the C library's ``mallopt`` with their values: it keeps freed memory, instead of asking for it again,
for all threads together."""

_STDERR: Final = 2
_PARENT_DEATH: Final = 1
"""The option of ``prctl`` that names the signal for the end of the parent."""
_CHUNK: Final = 2**20
_LONGEST: Final = 2**28
_BEAT: Final = 1.0
"""Seconds between checks that the child still runs: a process that it started can keep its pipe open."""

_LEAVING: Final = 5.0
"""Seconds in which a child that ends its own children may do so."""

_GRACE: Final = 10.0
"""Seconds in which a child that has closed its pipe must end."""


def settle_threads(*own: str) -> None:
    """Let the threads of this process sleep while they wait, and its allocator keep memory.

    It must be called before torch is imported. Foreign code that this process starts is not affected.

    Args:
        own: Further variables of the environment that foreign code does not get.
    """
    _ADDED.update(own)
    for name, value in PASSIVE.items():
        if name not in os.environ:
            os.environ[name] = value
            _ADDED.add(name)
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        for option, size in _ALLOCATOR:
            library.mallopt(option, size)


def end_with_parent() -> None:
    """Let this process end when its parent does, whatever ends that; on Linux."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL, 0, 0, 0)


def own_environment() -> dict[str, str]:
    """Return the environment that this process was started with, for foreign code."""
    return {name: value for name, value in os.environ.items() if name not in _ADDED}


def python_module(name: str) -> tuple[str, ...]:
    """Return the command that runs a module of this package in this interpreter, as :func:`python_code` does."""
    return python_code("import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)", name)


def python_code(code: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs code, for which ``sys`` is imported, in this interpreter.

    The current folder is not searched, so that no file in it can stand in for a module of this package or of
    another; this package is imported from the same folder as here.
    """
    start = f"import sys; sys.path.append(sys.argv.pop(1)); {code}"
    return (sys.executable, "-P", "-W", "ignore", "-c", start, str(Path(__file__).parents[1]), *arguments)


class ChildProcess:
    """A child process, in a session of its own so that everything that it starts ends with it.

    Args:
        command: The program and its arguments; the descriptor of the pipe for the answers is added.
        environment: Its whole environment; by default this process's and ``PASSIVE``.
        quiet: Whether what it prints is discarded.
        pass_fds: Further descriptors that it gets.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        quiet: bool = False,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._reading, writing = os.pipe()
        self._gentle = bool(pass_fds)
        self._buffer = bytearray()
        try:
            self._process = subprocess.Popen(
                [*command, str(writing)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL if quiet else _STDERR,
                stderr=subprocess.DEVNULL if quiet else None,
                pass_fds=[*pass_fds, writing],
                env={**PASSIVE, **os.environ} if environment is None else environment,
                start_new_session=True,
            )
        except BaseException:  # also Ctrl-C: the pipe is closed, and the exception goes on
            os.close(self._reading)
            raise
        finally:
            os.close(writing)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def fileno(self) -> int:
        """Return the descriptor of the pipe that the answers come from."""
        return self._reading

    def send(self, request: str) -> None:
        """Send a request of one line; a child that has ended is noticed when its answer is read."""
        stdin = self._process.stdin
        with suppress(BrokenPipeError):
            if stdin:
                stdin.write(f"{request}\n".encode())
                stdin.flush()

    def poll(self) -> Document | None:
        """Return the next document if it is complete, without waiting.

        Raises:
            ChildError: If the process has ended and there is no further document, or sends no JSON document.
        """
        if b"\n" not in self._buffer:
            ended = self.ended  # before the pipe is read: what was written before the end is not lost
            data = self.collect()
            if data == b"" or (data is None and ended):
                raise ChildError(self.ending())
        line, newline, rest = self._buffer.partition(b"\n")
        if not newline:
            return None
        self._buffer = rest
        try:
            document: Document = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ChildError("the process sent a line that is no JSON document") from error
        return document

    def collect(self) -> bytes | None:
        """Read what the process has sent so far, without waiting; None if there is nothing, empty at its end.

        Raises:
            ChildError: If a line is too long.
        """
        data = os.read(self._reading, _CHUNK) if wait([self], 0.0) else None
        self._buffer += data or b""
        if len(self._buffer) > _LONGEST:
            raise ChildError("the process sent a line that is too long")
        return data

    def receive(self, seconds: float | None = None) -> Document:
        """Wait for the next document.

        Args:
            seconds: How long to wait at most; None for as long as the process runs.

        Raises:
            ChildError: If the process ends first, or sends no JSON document.
            TimeoutError: If there is none in time.
        """
        deadline = None if seconds is None else monotonic() + seconds
        while (document := self.poll()) is None:
            left = _BEAT if deadline is None else min(_BEAT, deadline - monotonic())
            if left < 0:
                raise TimeoutError(f"no answer within {seconds:g} s")
            wait([self], left)
        return document

    def kill(self) -> None:
        """End the process with everything that it started."""
        with suppress(ProcessLookupError):  # a program that was stopped would not notice that its stdin is closed
            os.killpg(self._process.pid, signal.SIGCONT)
        if self._process.stdin:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            with suppress(subprocess.TimeoutExpired):  # a program that watches its stdin ends what it started
                self._process.wait(_LEAVING if self._gentle else 0)
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._reading >= 0:
            os.close(self._reading)
            self._reading = -1

    def ending(self) -> str:
        """Return how the process ended, in one line."""
        try:
            code = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return "the process closed the pipe of its answers"
        if code < 0:
            return f"the process was ended by {signal.Signals(-code).name}"
        return f"the process ended with exit status {code}"


def wait(children: Collection[ChildProcess], seconds: float = _BEAT) -> list[ChildProcess]:
    """Wait until there is something to read from any of some children; return those children."""
    with selectors.DefaultSelector() as selector:
        for child in children:
            selector.register(child, selectors.EVENT_READ, child)
        return [key.data for key, _ in selector.select(seconds)]


@contextmanager
def answers() -> Iterator[Callable[[Mapping[str, object]], None]]:
    """In the child: return what sends a document to the parent. Requests are lines of stdin. Warnings are ignored."""
    warnings.simplefilter("ignore")
    with os.fdopen(int(sys.argv[-1]), "w", encoding="utf-8") as pipe:
        os.set_inheritable(pipe.fileno(), False)  # noqa: FBT003 - it takes no keyword

        def send(document: Mapping[str, object]) -> None:
            pipe.write(f"{json.dumps(document)}\n")
            pipe.flush()

        yield send

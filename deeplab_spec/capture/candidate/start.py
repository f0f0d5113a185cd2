"""Starts and ends the process that a candidate runs in. It needs no PyTorch, so that the process can start first."""

import fcntl
import json
import os
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from typing import Any, Final

from deeplab_spec.child_process import ChildProcess, Document, own_environment
from deeplab_spec.errors import ChildError
from deeplab_spec.spec.variants import REFERENCE

LOCK: Final = ".lock"
"""Suffix of a file written by ``lock``."""

TIMEOUT: Final = 600.0
"""Seconds that an answer of a candidate may take."""

UNREQUESTED: Final = "the process sent an answer that was not requested"

_STARTING: Final = 60.0
"""Seconds that the process may take at least until it has imported PyTorch."""

_START: Final = "import sys; exec(eval(open(int(sys.argv[1]), 'rb', 0, closefd=False).readline() or b'0'))"
"""The program of the process: the text of another arrives on the pipe of its requests."""
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a private folder is made in it
_PIPE: Final = 2**20
"""Bytes of requests that wait while the process does what an earlier one said."""
_ROOM: Final = 2**32
"""Bytes that must be free in shared memory, or the folder of the tensors is made elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """How a candidate's process is started.

    Attributes:
        python: The interpreter of the candidate's environment; empty for this one.
        search: Folders in which the candidate's module is searched, after all others; the current folder follows them.
        timeout: Seconds that an answer may take.
        memory: Bytes that the process may allocate; 0 for no limit.
        begun: Processes that were started ahead of their use.
    """

    python: str = ""
    search: tuple[str, ...] = ()
    timeout: float = TIMEOUT
    memory: int = 0
    begun: "list[CandidateProcess]" = field(default_factory=list, compare=False, repr=False)

    def process(self) -> "CandidateProcess":
        """Return a process: one that was begun, or a new one.

        Raises:
            ChildError: If it cannot be started.
        """
        return self.begun.pop() if self.begun else CandidateProcess(self)


HERE: Final = ProcessSettings()
"""A process of this interpreter, without limits."""


@contextmanager
def starting(settings: ProcessSettings, *targets: str | None) -> Iterator[ProcessSettings]:
    """Start a process before this one imports PyTorch, if a target needs one; return settings with it.

    What is not used ends at the end.
    """
    begun = []
    foreign = [name for name in targets if name and name.partition(":")[0] != REFERENCE and not name.endswith(LOCK)]
    if foreign and "torch" not in sys.modules:
        with suppress(ChildError):  # the process of the first request fails too, and its error is reported
            begun.append(CandidateProcess(settings))
    try:
        yield replace(settings, begun=begun)
    finally:
        for process in begun:
            process.end()


class CandidateProcess:
    """A process that runs a candidate, with the pipes to it and a folder for tensors.

    Args:
        settings: How it is started.

    Raises:
        ChildError: If it cannot be started.
    """

    def __init__(self, settings: ProcessSettings) -> None:
        python = settings.python or sys.executable
        self._requests = -1
        _check_interpreter(python)
        self._timeout = settings.timeout
        self._key = secrets.token_hex(16)
        self.folder = Path(tempfile.mkdtemp(dir=_folder_of_tensors()))
        reading, writing = os.pipe()
        try:
            self._child = ChildProcess([python, "-c", _START, str(reading)], own_environment(), pass_fds=(reading,))
        except BaseException as error:  # also Ctrl-C
            os.close(writing)
            shutil.rmtree(self.folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise ChildError(str(error.strerror)) from error
            raise
        finally:
            os.close(reading)
        self._requests = writing
        os.set_blocking(writing, False)
        with suppress(OSError, AttributeError):  # on Linux
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE)
        here = Path(__file__).parent
        source = (here / "process.py").read_text()
        self._send(repr((here / "supervisor.py").read_text()))
        self.send({"source": source, "folder": str(self.folder), "memory": settings.memory, "key": self._key})

    def greeting(self) -> Document:
        """Wait until it has imported PyTorch; return what it says first.

        Raises:
            ChildError: If it ends first.
            TimeoutError: If it does not say anything in time.
        """
        return self._child.receive(max(self._timeout, _STARTING))

    def send(self, document: Mapping[str, Any]) -> None:
        """Send a document; answers are read meanwhile, so that neither side waits for the other.

        Raises:
            ChildError: If the process has ended, or does not take it in time.
        """
        self._send(json.dumps(document))

    def _send(self, line: str) -> None:
        left = memoryview(f"{line}\n".encode())
        deadline = monotonic() + self._timeout
        while left:
            _, ready, _ = select.select([], [self._requests], [], 1.0)
            self._child.collect()
            if ready:
                try:
                    left = left[os.write(self._requests, left) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    raise ChildError(self._child.ending()) from None
            elif monotonic() > deadline:
                raise ChildError(f"the process takes no request within {self._timeout:g} s")

    def receive(self) -> Document:
        """Wait for the next answer.

        Raises:
            ChildError: If the process ends first, or sends something that is no answer.
            TimeoutError: If there is none in time.
        """
        return self._opened(self._child.receive(self._timeout))

    def poll(self) -> Document | None:
        """Return the next answer if it has arrived.

        Raises:
            ChildError: If there is none and the process has ended, or it sends something that is no answer.
        """
        sealed = self._child.poll()
        return sealed and self._opened(sealed)

    def _opened(self, sealed: object) -> Document:
        """Return an answer whose seal is that of the process's program, and not of code that it runs."""
        text, seal = (sealed.get("text"), sealed.get("seal")) if isinstance(sealed, dict) else (None, None)
        if isinstance(text, str) and isinstance(seal, str) and seal.isascii():
            expected = blake2b(text.encode(errors="surrogatepass"), key=self._key.encode()).hexdigest()
            if secrets.compare_digest(seal, expected):
                answer: Document = json.loads(text)
                return answer
        raise ChildError(UNREQUESTED)

    def end(self) -> None:
        """End the process with everything that it started, and remove its folder."""
        if self._requests >= 0:
            os.close(self._requests)
            self._requests = -1
            self._child.kill()
            shutil.rmtree(self.folder, ignore_errors=True)

    def __del__(self) -> None:
        with suppress(BaseException):  # also a second Ctrl-C
            self.end()


def _check_interpreter(path: str) -> None:
    """Check that a path is a Python interpreter: another program would print whatever it likes.

    Raises:
        ChildError: If it is not.
    """
    if path == sys.executable:
        return
    with suppress(OSError, subprocess.SubprocessError):
        command = [path, "-c", "print(2**10)"]
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_STARTING, check=True)
        if done.stdout.strip() == b"1024":
            return
    raise ChildError("it is no Python interpreter")


def _folder_of_tensors() -> Path | None:
    """Return shared memory if it has room; None for the folder of temporary files."""
    with suppress(OSError):
        room = os.statvfs(_SHARED_MEMORY)
        if room.f_bavail * room.f_frsize >= _ROOM:
            return _SHARED_MEMORY
    return None

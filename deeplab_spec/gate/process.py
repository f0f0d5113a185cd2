"""A sampling process, seen from the one that measures: every answer has a deadline."""

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self

from deeplab_spec.errors import TargetError

CHILD: Final = Path(__file__).with_name("side") / "process.py"

_ENVIRONMENT: Final = {
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin starve the other side
    "PYTHONDONTWRITEBYTECODE": "1",  # a checkout stays as it is
    "PYTHONHASHSEED": "0",
}

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed run.

    Attributes:
        seconds: Of the run.
        witness: Seconds of a fixed piece of arithmetic directly before it.
        mhz: The clock of the GPU directly after it; None where it is unknown.
        slowed_by: Why the GPU was slowed to protect it; empty where it was not, or where that is unknown.
    """

    seconds: float
    witness: float
    mhz: int | None = None
    slowed_by: str = ""


class SamplingProcess:
    """A fresh process that has built one side, and times a run of it whenever it is asked.

    Args:
        name: What is timed, for messages.
        paths: Directories that the process imports from first.
        job: What it builds and runs.
        timeout: Seconds that it may take for any answer.
        script: The program.
    """

    def __init__(self, name: str, paths: tuple[Path, ...], job: Facts, timeout: float, script: Path = CHILD) -> None:
        self.name = name
        self.timeout = timeout
        reading, writing = os.pipe()
        before = os.environ.get("PYTHONPATH")
        environment = {**os.environ, **_ENVIRONMENT, "OMP_NUM_THREADS": str(job["threads"])}
        environment["PYTHONPATH"] = os.pathsep.join([*map(str, paths), *([before] if before else [])])
        command = [sys.executable, "-P", "-W", "ignore", str(script), str(writing)]
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[writing],
            env=environment,
            start_new_session=True,
        )
        os.close(writing)
        self._reading = reading
        self._buffer = b""
        self._tell(json.dumps(dict(job)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def ready(self) -> Facts:
        """Wait until it is built and warm; return what it says of itself.

        Raises:
            TargetError: If it fails, crashes or hangs.
        """
        return self.answer("ready")

    def sample(self) -> Sample:
        """Time one run.

        Raises:
            TargetError: If it fails, crashes or hangs.
        """
        self._tell("sample")
        answer = self.answer("sample")
        return Sample(**{name: value for name, value in answer.items() if name != "event"})

    def place(self, cores: frozenset[int]) -> None:
        """Let it run on these cores only; where the system forbids that, it runs where it did."""
        with suppress(OSError):
            os.sched_setaffinity(self._child.pid, cores)

    def _tell(self, line: str) -> None:
        stdin = self._child.stdin
        with suppress(BrokenPipeError):  # it has ended; the answer says how
            if stdin:
                stdin.write(f"{line}\n".encode())
                stdin.flush()

    def answer(self, wanted: str) -> Facts:
        """Wait for an event, and return its facts.

        Raises:
            TargetError: If there is another event, or none in time.
        """
        line = self._line()
        if line is None:
            raise TargetError(self.name, f"no answer within {self.timeout:g} seconds: it hangs")
        if not line:
            raise TargetError(self.name, self._ending())
        answer: Facts = json.loads(line)
        if answer["event"] != wanted:
            raise TargetError(self.name, str(answer.get("message", f"answered {answer['event']}")))
        return answer

    def _line(self) -> bytes | None:
        """Return the next line; empty if the process has ended, None if time is up."""
        deadline = monotonic() + self.timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._reading, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - monotonic())):
                    return None
                data = os.read(self._reading, 65536)
                if not data:
                    return b""
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _ending(self) -> str:
        code = self._child.wait()
        if code < 0:
            return f"the process was ended by {signal.Signals(-code).name}"
        return f"the process ended with exit status {code}"

    def _end(self) -> None:
        """End it with everything that it started, and wait for that."""
        if self._child.stdin:
            with suppress(BrokenPipeError):
                self._child.stdin.close()
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        os.close(self._reading)

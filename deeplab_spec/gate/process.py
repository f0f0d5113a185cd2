"""The gate's end of a measured process: it starts ``side/process.py``, and every answer has a deadline."""

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

SCRIPT: Final = Path(__file__).with_name("side") / "process.py"

_ENVIRONMENT: Final = {
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads would take the core from the other side
    "PYTHONDONTWRITEBYTECODE": "1",  # the side's directory stays unchanged
    "PYTHONHASHSEED": "0",
}

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """One timed run.

    Attributes:
        seconds: The time of the run.
        witness: The time of a fixed piece of arithmetic directly before it.
        mhz: The clock of the GPU directly after it; None if unknown.
        slowed_by: Why the GPU was slowed to protect it; empty if it was not, or if that is unknown.
    """

    seconds: float
    witness: float
    mhz: int | None = None
    slowed_by: str = ""


class SideProcess:
    """A fresh process that builds one side, and times one run for every request.

    Args:
        name: The name of the side in error messages.
        paths: Directories that the process searches for modules first.
        job: What it builds and runs; see :func:`~deeplab_spec.gate.pairs.job_of`.
        timeout: Seconds that it may take for one answer.
        script: The program that is started.
    """

    def __init__(self, name: str, paths: tuple[Path, ...], job: Facts, timeout: float, script: Path = SCRIPT) -> None:
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
        self._send(json.dumps(dict(job)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill the process and everything that it started, and wait for its end."""
        if self._child.stdin:
            with suppress(BrokenPipeError):
                self._child.stdin.close()
        with suppress(ProcessLookupError):  # it has already ended
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        os.close(self._reading)

    def sample(self) -> Sample:
        """Time one run.

        Raises:
            TargetError: If the process fails, crashes or hangs.
        """
        self._send("sample")
        answer = self.answer("sample")
        return Sample(**{name: value for name, value in answer.items() if name != "event"})

    def restrict(self, cores: frozenset[int]) -> None:
        """Let the process run on these cores only; does nothing where the system forbids it."""
        with suppress(OSError):
            os.sched_setaffinity(self._child.pid, cores)

    def answer(self, event: str) -> Facts:
        """Wait for an event, and return its fields.

        Raises:
            TargetError: If another event arrives, or none before the deadline.
        """
        line = self._line()
        if line is None:
            raise TargetError(self.name, f"no answer within {self.timeout:g} seconds: it hangs")
        if not line:
            raise TargetError(self.name, self._ending())
        answer: Facts = json.loads(line)
        if answer["event"] != event:
            raise TargetError(self.name, str(answer.get("message", f"answered {answer['event']}")))
        return answer

    def _send(self, line: str) -> None:
        stdin = self._child.stdin
        with suppress(BrokenPipeError):  # the process has ended; the next answer reports how
            if stdin:
                stdin.write(f"{line}\n".encode())
                stdin.flush()

    def _line(self) -> bytes | None:
        """Return the next line; empty if the process has ended, None at the deadline."""
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

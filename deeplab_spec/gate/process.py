"""The gate's end of a measured process: it starts ``side/process.py``, and every answer has a deadline."""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from deeplab_spec.child_process import PASSIVE, ChildProcess
from deeplab_spec.errors import ChildError, TargetError

SCRIPT: Final = Path(__file__).with_name("side") / "process.py"

_ENVIRONMENT: Final = {
    **PASSIVE,  # spinning threads would take the core from the other side
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

    It searches the paths for modules first; the job is that of :func:`~deeplab_spec.gate.pairs.job_of`.
    """

    def __init__(self, name: str, paths: tuple[Path, ...], job: Facts, timeout: float, script: Path = SCRIPT) -> None:
        self.name = name
        self.timeout = timeout
        before = os.environ.get("PYTHONPATH")
        environment = {**os.environ, **_ENVIRONMENT, "OMP_NUM_THREADS": str(job["threads"])}
        environment["PYTHONPATH"] = os.pathsep.join([*map(str, paths), *([before] if before else [])])
        command = [sys.executable, "-P", "-W", "ignore", str(script)]
        self._child = ChildProcess(command, environment, quiet=True)
        self._child.send(json.dumps(dict(job)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()

    def sample(self) -> Sample:
        """Time one run.

        Raises:
            TargetError: If the process fails, crashes or hangs.
        """
        self._child.send("sample")
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
        try:
            answer = self._child.receive(self.timeout)
        except TimeoutError:
            raise TargetError(self.name, f"no answer within {self.timeout:g} seconds: it hangs") from None
        except ChildError as error:
            raise TargetError(self.name, error.reason) from error
        if answer["event"] != event:
            raise TargetError(self.name, str(answer.get("message", f"answered {answer['event']}")))
        return answer

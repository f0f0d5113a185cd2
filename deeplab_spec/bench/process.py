"""The processes of ``bench``, seen from the one that measures: every answer has a deadline."""

import json
import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any, Final, Literal, Self

from deeplab_spec.bench.request import ADAPTER, Job

Status = Literal["timed", "refused", "failed"]

_ENVIRONMENT: Final = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that spin while they wait starve the other processes of a machine that is shared."""

_BEAT: Final = 1.0
_CHUNK: Final = 65536


class ModeProcess:
    """A process with one mode in it.

    Args:
        job: What it prepares.
        limit: Seconds that it may take for any answer.

    Attributes:
        status: ``timed`` while nothing failed.
        reason: What failed.
        facts: What the last preparation found.
        runs: What every timed turn since then found.
    """

    def __init__(self, job: Job, limit: float) -> None:
        self.job = job
        self.limit = limit
        self.status: Status = "timed"
        self.reason = ""
        self.facts: dict[str, Any] = {}
        self.runs: list[dict[str, Any]] = []
        self.allowed = self.deadline = 0.0
        self._buffer = b""
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def tell(self, command: str, limit: float = inf) -> None:
        """Give a command, to be answered within so many seconds. The first one starts the process."""
        if self._child is None:
            command = f"{ADAPTER.dump_json(self.job).decode()}\n{command}"
            self._child = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "deeplab_spec.bench.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**_ENVIRONMENT, **os.environ},
                start_new_session=True,  # so that what it starts can be ended with it
            )
        self.allowed = max(0.0, min(limit, self.limit))
        self.deadline = monotonic() + self.allowed
        stdin = self._child.stdin
        with suppress(BrokenPipeError):  # it has ended; reading says so
            if stdin:
                stdin.write(f"{command}\n".encode())
                stdin.flush()

    def fileno(self) -> int:
        """Return the descriptor that answers come from."""
        if self._child is None or self._child.stdout is None:
            raise ValueError("the process was not started")
        return self._child.stdout.fileno()

    def read(self) -> dict[str, Any] | None:
        """Read what is there; return the answer once it is complete, with failures noted."""
        data = os.read(self.fileno(), _CHUNK)
        self._buffer += data
        line, newline, rest = self._buffer.partition(b"\n")
        if not newline:
            return None if data else self.fail(f"the process {self._ending()}")
        self._buffer = rest
        self.status, self.reason = "timed", ""
        answer: dict[str, Any] = json.loads(line)
        event = answer.pop("event")
        if event in {"refused", "failed"}:
            self.status, self.reason = event, answer["reason"]
        return answer

    def fail(self, reason: str) -> dict[str, Any]:
        """Note a failure, and end the process."""
        self.status, self.reason = "failed", reason
        self._end()
        return {}

    @property
    def started(self) -> bool:
        """Whether it was told anything yet."""
        return self._child is not None

    @property
    def ended(self) -> bool:
        """Whether it was started and has ended, so that it can be told nothing."""
        return self._child is not None and self._child.poll() is not None

    def _ending(self) -> str:
        code = self._child.wait() if self._child else 0
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"

    def _end(self) -> None:
        if self._child is None:
            return
        if self._child.stdin:
            with suppress(BrokenPipeError):
                self._child.stdin.close()
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        if self._child.stdout:
            self._child.stdout.close()


def ask(
    processes: Sequence[ModeProcess],
    command: str,
    *,
    at_once: int = 1,
    until: float = inf,
    beat: Callable[[str, int], None] = lambda _mode, _done: None,
) -> dict[ModeProcess, dict[str, Any]]:
    """Give processes a command, some at a time, and wait for their answers.

    Args:
        processes: Those that are asked, in this order.
        command: What they do.
        at_once: How many do it side by side.
        until: When all must have answered, as :func:`time.monotonic` counts; a process that is late is ended.
        beat: Called about once a second with the modes that are at work, and how many have answered.

    Returns:
        The answers; an empty one of a process that ended or was late.
    """
    answers: dict[ModeProcess, dict[str, Any]] = {}
    queue = deque(processes)
    active: list[ModeProcess] = []
    with selectors.DefaultSelector() as selector:
        while queue or active:
            while queue and len(active) < at_once:
                process = queue.popleft()
                process.tell(command, until - monotonic())
                selector.register(process, selectors.EVENT_READ)
                active.append(process)
            ready = [key.fileobj for key, _ in selector.select(_BEAT)]
            beat(", ".join(process.job.mode for process in active), len(answers))
            for process in list(active):
                if process in ready:
                    answer = process.read()
                elif monotonic() > process.deadline:
                    answer = process.fail(f"no answer to {command!r} within {process.allowed:.0f} s")
                else:
                    continue
                if answer is not None:
                    selector.unregister(process)
                    active.remove(process)
                    answers[process] = answer
    return answers

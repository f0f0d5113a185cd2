"""The processes of ``bench``, as the parent sees them: every answer has a deadline."""

from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import Any, Literal, Self

from deeplab_spec.bench.request import ADAPTER, Job
from deeplab_spec.child_process import ChildProcess, python_module, wait
from deeplab_spec.errors import ChildError

Status = Literal["timed", "refused", "failed"]


class ModeProcess:
    """A process that prepares and times one mode; it may take so many seconds for any answer.

    Attributes:
        status: ``timed`` while nothing failed.
        reason: What failed.
        facts: The answer to the last preparation.
        runs: The answer of every timed turn since then.
    """

    def __init__(self, job: Job, limit: float) -> None:
        self.job = job
        self.limit = limit
        self.status: Status = "timed"
        self.reason = ""
        self.facts: dict[str, Any] = {}
        self.runs: list[dict[str, Any]] = []
        self.allowed = self.deadline = 0.0
        self.child: ChildProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.child:
            self.child.kill()

    def send(self, command: str, limit: float = inf) -> ChildProcess:
        """Send a command that must be answered within so many seconds. The first one starts the process."""
        if self.child is None:
            self.child = ChildProcess(python_module("deeplab_spec.bench.worker"))
            self.child.send(ADAPTER.dump_json(self.job).decode())
        self.child.send(command)
        self.allowed = max(0.0, min(limit, self.limit))
        self.deadline = monotonic() + self.allowed
        return self.child

    def poll(self, command: str) -> dict[str, Any] | None:
        """Return the answer to a command if there is one; an empty one after a crash or past the deadline."""
        if self.child is None:
            return None
        try:
            answer = self.child.poll()
        except ChildError as error:
            return self._fail(error.reason)
        if answer is None:
            late = monotonic() > self.deadline
            return self._fail(f"no answer to {command!r} within {self.allowed:.0f} s") if late else None
        event = answer.pop("event")
        self.status, self.reason = ("timed", "") if event == "done" else (event, answer["reason"])
        return answer

    @property
    def started(self) -> bool:
        """Whether a command was sent to it."""
        return self.child is not None

    @property
    def ended(self) -> bool:
        """Whether it was started and has ended, so that no command can be sent to it."""
        return self.child is not None and self.child.ended

    def _fail(self, reason: str) -> dict[str, Any]:
        self.status, self.reason = "failed", reason
        if self.child:
            self.child.kill()
        return {}


def ask(
    processes: Sequence[ModeProcess],
    command: str,
    *,
    at_once: int = 1,
    until: float = inf,
    beat: Callable[[str, int], None] = lambda _mode, _done: None,
) -> dict[ModeProcess, dict[str, Any]]:
    """Send a command to processes, some at a time, and wait for their answers.

    Args:
        processes: The processes, in the order in which they get the command.
        command: What they do.
        at_once: How many do it side by side.
        until: When all must have answered, as :func:`time.monotonic` counts; a process that is late is ended.
        beat: Called about once a second with the modes that are at work, and how many have answered.

    Returns:
        The answers; an empty one for a process that ended or was late.
    """
    answers: dict[ModeProcess, dict[str, Any]] = {}
    queue = deque(processes)
    active: dict[ModeProcess, ChildProcess] = {}
    while queue or active:
        while queue and len(active) < at_once:
            process = queue.popleft()
            active[process] = process.send(command, until - monotonic())
        wait(active.values())
        beat(", ".join(process.job.mode for process in active), len(answers))
        for process in list(active):
            answer = process.poll(command)
            if answer is not None:
                del active[process]
                answers[process] = answer
    return answers

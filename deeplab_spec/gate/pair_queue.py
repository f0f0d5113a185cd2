"""Starts pairs ahead: starting takes longer than sampling, and nothing else may run while one is sampled.

Where there are cores and memory to spare, the pairs that are wanted next are started together, and none
is sampled before all of them are ready and wait.
"""

import os
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from time import monotonic
from types import TracebackType
from typing import Final, Self

from deeplab_spec.gate.cases import Case
from deeplab_spec.gate.pair_processes import StartedPair
from deeplab_spec.gate.pairs import Pair

MOST_AHEAD: Final = 6
"""Pairs until the first look."""


def default_ahead(case: Case, cores: int | None = None) -> int:
    """Return how many pairs are started together.

    Args:
        case: What is timed.
        cores: Of the machine.

    >>> from deeplab_spec.gate.cases import CPU_FORWARD
    >>> default_ahead(CPU_FORWARD, cores=2), default_ahead(CPU_FORWARD, cores=16)
    (1, 6)
    """
    if case.device == "cuda":
        return MOST_AHEAD
    free = (cores or os.cpu_count() or 1) // (2 * case.threads)
    return max(1, min(MOST_AHEAD, free))


class Ahead:
    """Measures pairs in the order of their numbers, some of them started together.

    Args:
        start: Starts the pair of a number.
        most: How many may be started together; memory may allow fewer.
        announce: Told what was built for base and for head, once, as soon as it is known.
    """

    def __init__(
        self, start: Callable[[int], StartedPair], most: int, announce: Callable[[tuple[str, str]], None] | None = None
    ) -> None:
        self._start = start
        self._most = most
        self._announce = announce
        self._room: int | None = None
        self._next = 0
        self._waiting: deque[StartedPair] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            for pair in self._waiting:
                stack.push(pair)

    def measure(self, wanted: int) -> Pair:
        """Measure the next pair.

        Args:
            wanted: How many pairs will be measured at least, with this one.

        Raises:
            TargetError: If a process fails, crashes or hangs, or is not of its side.
        """
        if not self._waiting:
            self._fill(min(self._most, wanted))
        with self._waiting.popleft() as pair:
            return pair.measure()

    def _fill(self, count: int) -> None:
        begun = monotonic()
        if self._room is None:
            self._begin(1)
            self._room = self._waiting[0].ready()
            if self._announce:
                self._announce(self._waiting[0].built)
            self._begin(min(count - 1, self._room))
            starting = list(self._waiting)[1:]
        else:
            self._begin(min(count, 1 + self._room))
            starting = list(self._waiting)
        for pair in starting:
            pair.ready()
        share = (monotonic() - begun) / len(self._waiting)
        for pair in self._waiting:
            pair.seconds = share

    def _begin(self, count: int) -> None:
        for _ in range(count):
            self._waiting.append(self._start(self._next))
            self._next += 1

"""Measures one pair after the other, and starts several of them together where the machine allows it.

Starting a pair takes longer than sampling it, and nothing else may run while a pair is sampled. So the
next pairs are started together, and none is sampled before all of them are ready and wait.
"""

import os
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice
from time import monotonic
from types import TracebackType
from typing import Final, Self

from deeplab_spec.gate.cases import Case
from deeplab_spec.gate.pair_processes import PairProcesses
from deeplab_spec.gate.pairs import Pair

MOST_AHEAD: Final = 6
"""As many pairs as the rule needs for its first decision."""


def default_ahead(case: Case, cores: int | None = None) -> int:
    """Return how many pairs are started together.

    Args:
        case: What is timed.
        cores: The number of cores; by default that of this machine.

    >>> from deeplab_spec.gate.cases import CPU_FORWARD
    >>> default_ahead(CPU_FORWARD, cores=2), default_ahead(CPU_FORWARD, cores=16)
    (1, 6)
    """
    if case.device == "cuda":
        return MOST_AHEAD
    free = (cores or os.cpu_count() or 1) // (2 * case.threads)
    return max(1, min(MOST_AHEAD, free))


class PairQueue:
    """Measures pairs in the order of their numbers.

    Args:
        start: Starts the pair with a given number.
        most: How many pairs may be started together; there are fewer if memory is short.
        announce: Called once with the calls that built base and head, as soon as they are known.
    """

    def __init__(
        self,
        start: Callable[[int], PairProcesses],
        most: int,
        announce: Callable[[tuple[str, str]], None] | None = None,
    ) -> None:
        self._start = start
        self._most = most
        self._announce = announce
        self._room: int | None = None
        self._next = 0
        self._waiting: deque[PairProcesses] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            for pair in self._waiting:
                stack.push(pair)

    def measure(self, coming: int) -> Pair:
        """Measure the next pair.

        Args:
            coming: How many pairs will be measured at least, including this one.

        Raises:
            TargetError: If a process fails, crashes or hangs, or has imported another side's code.
        """
        if not self._waiting:
            self._fill(min(self._most, coming))
        with self._waiting.popleft() as pair:
            return pair.measure()

    def _fill(self, count: int) -> None:
        """Start pairs and wait until all are ready; the very first pair shows how many more fit into memory."""
        begun = monotonic()
        self._begin(1)
        ready = 0
        if self._room is None:
            self._room = self._waiting[0].ready()
            ready = 1
            if self._announce:
                self._announce(self._waiting[0].built)
        self._begin(min(count - 1, self._room))
        for pair in islice(self._waiting, ready, None):
            pair.ready()
        share = (monotonic() - begun) / len(self._waiting)
        for pair in self._waiting:
            pair.seconds = share

    def _begin(self, count: int) -> None:
        for _ in range(count):
            self._waiting.append(self._start(self._next))
            self._next += 1

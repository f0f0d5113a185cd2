"""A pair: two fresh processes, one for each side, that are sampled in turn.

Each process waits without running while the other one is timed. The two times of a round lie a few
hundredths of a second apart, so that a longer disturbance of the machine affects both. The order
alternates from round to round (ABBA). A pair is one observation: the median over its rounds of the
logarithm of head's time over base's time.

Directly before every sample the process times a fixed piece of arithmetic, which shows the speed of the clock. A
pair whose clocks differ or change is dropped: the difference comes from the processor, not from the code.

A pair of one-thread CPU runs is sampled on a single core. Two cores are seldom equal for long: another
program uses one of them, or they share a physical core with different neighbours. While the processes
start they may use every core that is as near to their memory.

Starting a pair takes longer than sampling it, and nothing else may run while a pair is sampled. So the
next pairs are started together, and none is sampled before all of them are ready and wait.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from math import log
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any, Final, Self

from deeplab_spec.errors import TargetError
from deeplab_spec.gate.cases import Case
from deeplab_spec.gate.document import NO_PLANT, PairModel, Plant
from deeplab_spec.gate.sides import Facts, Sample, Side, SideProcess, job_of

CLOCK_FACTOR: Final = 1.15
"""A pair is dropped if its clocks differ by more than this, or if their ratio changes by more than this."""

DRIFT_FACTOR: Final = 1.5
"""A pair is dropped if a clock changes by more than this. A smaller common change cancels in the ratio."""

_THIRDS_FROM: Final = 9
"""The number of rounds from which a change between the first and the last third is more than noise."""

_NODES: Final = Path("/sys/devices/system/node")

Round = tuple[Sample, Sample]


class Pair(PairModel):
    """What a pair of processes measured; ``built`` has the calls that built base and head, with every argument."""

    built: tuple[str, str] = ("", "")

    @property
    def disturbed(self) -> str:
        """Why the pair is dropped; empty if it counts."""
        if _beyond(self.witness_ratio, CLOCK_FACTOR) or (self.mhz and _beyond(self.mhz[1] / self.mhz[0], CLOCK_FACTOR)):
            return "the clocks differed"
        if _beyond(self.apart, CLOCK_FACTOR) or _beyond(self.drift, DRIFT_FACTOR):
            return "a clock moved"
        return f"the device was slowed ({self.slowed_by})" if self.slowed_by else ""


def _beyond(ratio: float, factor: float) -> bool:
    return max(ratio, 1 / ratio) > factor


def summarize(rounds: Sequence[Round], facts: Sequence[Mapping[str, Any]], seconds: float) -> Pair:
    """Return the pair of these rounds of base and head; the seconds are those of the whole pair."""
    witnesses = [(before.witness, after.witness) for before, after in rounds]
    clocks = [(before.mhz, after.mhz) for before, after in rounds if before.mhz and after.mhz]
    ratios = [after / before for before, after in witnesses]
    drifts = [_change([witness[side] for witness in witnesses]) for side in (0, 1)]
    drifts += [_change([clock[side] for clock in clocks]) for side in (0, 1) if clocks]
    return Pair(
        log_ratio=median(log(after.seconds / before.seconds) for before, after in rounds),
        base_seconds=median(before.seconds for before, _ in rounds),
        head_seconds=median(after.seconds for _, after in rounds),
        witness_ratio=median(after for _, after in witnesses) / median(before for before, _ in witnesses),
        apart=_change(ratios),
        drift=max(drifts),
        mhz=(median(before for before, _ in clocks), median(after for _, after in clocks)) if clocks else None,
        slowed_by=next((sample.slowed_by for pair in rounds for sample in pair if sample.slowed_by), ""),
        seconds=seconds,
        device=str(facts[0]["device"]),
        torch=str(facts[0]["torch"]),
        built=(str(facts[0]["built"]), str(facts[1]["built"])),
    )


def _change(values: Sequence[float]) -> float:
    """Return the factor between the medians of the first and the last third; 1 if there are few values."""
    if len(values) < _THIRDS_FROM:
        return 1.0
    third = len(values) // 3
    first, last = median(values[:third]), median(values[-third:])
    return max(first / last, last / first)


class PairProcesses:
    """Two fresh processes, one for each side, that are sampled once.

    The number of the pair decides which side begins, and which core is used. The slowdown is planted in head.
    """

    def __init__(
        self, case: Case, base: Side, head: Side, timeout: float, *, number: int = 0, plant: Plant = NO_PLANT
    ) -> None:
        self.case = case
        self.sides = (base, head)
        self.number = number
        self.seconds = 0.0
        self._core = sampling_core(case, number)
        self._facts: list[Facts] = []
        jobs = ((base, "base", job_of(case, base)), (head, "head", job_of(case, head, plant)))
        with ExitStack() as stack:
            self._processes = [
                stack.enter_context(SideProcess(f"{role} ({side.name})", side.paths, job, timeout))
                for side, role, job in jobs
            ]
            self._stack = stack.pop_all()
        if self._core is not None:
            self._restrict(near(self._core))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ready(self) -> int:
        """Wait until both processes are built and warm; return how many more pairs fit into memory.

        Raises:
            TargetError: If a process fails, crashes or hangs, or has imported another side's code.
        """
        self._facts = [process.answer("ready") for process in self._processes]
        for side, facts in zip(self.sides, self._facts, strict=True):
            side.require_origin(facts["origin"])
        base, head = self._facts
        if base["torch"] != head["torch"] or base["device"] != head["device"]:
            name = self.sides[1].name
            raise TargetError(name, "runs on another device or torch than base: times cannot be compared")
        return min(int(facts["room"]) for facts in self._facts) // 2

    @property
    def built(self) -> tuple[str, str]:
        """The calls that built base and head, with every argument."""
        base, head = self._facts
        return str(base["built"]), str(head["built"])

    def measure(self) -> Pair:
        """Sample both processes, which must be ready."""
        start = monotonic()
        if self._core is not None:
            self._restrict(frozenset({self._core}))
        rounds = [self._round(number) for number in range(self.case.rounds + 1)]
        return summarize(rounds[1:], self._facts, self.seconds + monotonic() - start)

    def _round(self, number: int) -> Round:
        turn = (0, 1) if (number + self.number) % 2 == 0 else (1, 0)
        samples = {side: self._processes[side].sample() for side in turn}
        return samples[0], samples[1]

    def _restrict(self, cores: frozenset[int]) -> None:
        for process in self._processes:
            process.restrict(cores)


def sampling_core(case: Case, number: int) -> int | None:
    """Return the core on which a pair is sampled; None to leave that to the system.

    Two consecutive pairs use the same core, so that each side begins once on it. A run of several threads
    needs several cores, and a run on a GPU spends its time there.
    """
    if case.device != "cpu" or case.threads > 1 or not hasattr(os, "sched_setaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[number // 2 % len(allowed)]


def near(core: int, nodes: Path = _NODES) -> frozenset[int]:
    """Return the cores that this process may use and that share their memory node with ``core``."""
    allowed = frozenset(os.sched_getaffinity(0))
    for node in nodes.glob("node*/cpulist"):
        together = read_list(node.read_text(encoding="ascii"))
        if core in together:
            return (allowed & together) | {core}
    return allowed


def read_list(text: str) -> frozenset[int]:
    """Read a list of cores in the kernel's format.

    >>> sorted(read_list("0-2,5"))
    [0, 1, 2, 5]
    """
    spans = (part.partition("-") for part in text.strip().split(",") if part)
    return frozenset(core for first, _, last in spans for core in range(int(first), int(last or first) + 1))


MOST_AHEAD: Final = 6
"""As many pairs as the rule needs for its first decision."""


def default_ahead(case: Case, cores: int | None = None) -> int:
    """Return how many pairs are started together.

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

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for pair in self._waiting:
                stack.push(pair)

    def measure(self, coming: int) -> Pair:
        """Measure the next pair, the first of at least so many that are coming."""
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

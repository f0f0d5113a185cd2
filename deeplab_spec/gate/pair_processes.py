"""The two processes of a pair: both are started and built, then wait without running until they are sampled.

A pair of one-thread CPU runs is sampled on a single core. Two cores are seldom equal for long: another
program uses one of them, or they share a physical core with different neighbours. While the processes
start they may use every core that is as near to their memory.
"""

import os
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Final, Self

from deeplab_spec.errors import TargetError
from deeplab_spec.gate.cases import Case
from deeplab_spec.gate.pairs import NO_PLANT, Pair, Plant, Round, job_of, summarize
from deeplab_spec.gate.process import Facts, SideProcess
from deeplab_spec.gate.sides import Side

_NODES: Final = Path("/sys/devices/system/node")


class PairProcesses:
    """Two fresh processes, one for each side, that are sampled once.

    Args:
        case: What is timed.
        base: One side.
        head: The other side.
        timeout: Seconds that a process may take for one answer.
        number: The number of the pair: it decides which side begins and which core is used.
        plant: The slowdown that is planted in head.
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """Sample both processes, which must be ready.

        Raises:
            TargetError: If a process fails, crashes or hangs.
        """
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

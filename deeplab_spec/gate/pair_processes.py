"""A pair whose processes are started: it waits, without running, until it is sampled."""

from contextlib import ExitStack
from time import monotonic
from types import TracebackType
from typing import Self

from deeplab_spec.errors import TargetError
from deeplab_spec.gate.cases import Case
from deeplab_spec.gate.cores import near, sampling_core
from deeplab_spec.gate.pairs import NOTHING, Pair, Plant, Round, job_of, measured
from deeplab_spec.gate.process import Facts, SamplingProcess
from deeplab_spec.gate.sides import Side


class StartedPair:
    """Two fresh processes that are being started, and are sampled once.

    Args:
        case: What is timed.
        base: One side.
        head: The other.
        timeout: Seconds that a process may take for any answer.
        number: Of the pair: the sides take turns in beginning, and the cores in being used.
        plant: What is done to head on purpose.
    """

    def __init__(
        self, case: Case, base: Side, head: Side, timeout: float, *, number: int = 0, plant: Plant = NOTHING
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
                stack.enter_context(SamplingProcess(f"{role} ({side.name})", side.paths, job, timeout))
                for side, role, job in jobs
            ]
            self._stack = stack.pop_all()
        if self._core is not None:
            self._place(near(self._core))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def ready(self) -> int:
        """Wait until both processes are built and warm; return how many more pairs have room in memory.

        Raises:
            TargetError: If a process fails, crashes or hangs, or is not of its side.
        """
        self._facts = [process.ready() for process in self._processes]
        for side, fact in zip(self.sides, self._facts, strict=True):
            side.require_origin(fact["origin"])
        base, head = self._facts
        if base["torch"] != head["torch"] or base["device"] != head["device"]:
            name = self.sides[1].name
            raise TargetError(name, "runs on another device or torch than base: times cannot be compared")
        return min(int(fact["room"]) for fact in self._facts) // 2

    @property
    def built(self) -> tuple[str, str]:
        """What was built for base and for head, with every argument."""
        base, head = self._facts
        return str(base["built"]), str(head["built"])

    def measure(self) -> Pair:
        """Sample the pair, which is ready.

        Raises:
            TargetError: If a process fails, crashes or hangs.
        """
        start = monotonic()
        if self._core is not None:
            self._place(frozenset({self._core}))
        rounds = [self._round(number) for number in range(self.case.rounds + 1)]
        return measured(rounds[1:], self._facts, self.seconds + monotonic() - start)

    def _round(self, number: int) -> Round:
        turn = (0, 1) if (number + self.number) % 2 == 0 else (1, 0)
        samples = {place: self._processes[place].sample() for place in turn}
        return samples[0], samples[1]

    def _place(self, cores: frozenset[int]) -> None:
        for process in self._processes:
            process.place(cores)

"""A pair: two fresh processes, one for each side, that take turns sample by sample.

Both are started together, and each waits without running while the other is timed, so the two times of
a round lie a few hundredths of a second apart and what disturbs the machine for longer disturbs both.
The order turns from round to round (ABBA). A pair is one observation: the median over its rounds of
the logarithm of head's time over base's.

Directly before every sample the process times a fixed piece of arithmetic: the clock's witness. A pair
whose witnesses differ is dropped, for then the processor and not the code made the difference.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from math import log
from statistics import median
from time import monotonic
from typing import Any, Final

from deeplab_spec.errors import TargetError
from deeplab_spec.measure.gate_cases import Case
from deeplab_spec.measure.gate_process import SamplingProcess
from deeplab_spec.measure.gate_sides import Side
from deeplab_spec.spec.network import DEFAULT_CLASSES

WARM_UP: Final = 3
"""Runs of each process before the first round; the first round is run, and not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """What is done to a side on purpose, to see whether the gate finds it.

    Attributes:
        wait: Every run waits for this share of its own time.
        mode: The side runs in this mode instead of the case's.
    """

    wait: float = 0.0
    mode: str | None = None


NOTHING: Final = Plant()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What a pair of processes measured.

    Attributes:
        log_ratio: Median over rounds of the logarithm of head's time over base's.
        base_seconds: Median of base's times.
        head_seconds: Median of head's times.
        witness_ratio: Head's median witness over base's; 1 if the clocks were equal.
        seconds: How long the pair took, with the start of both processes.
        device: What ran it, as the process says.
        torch: Version of torch.
    """

    log_ratio: float
    base_seconds: float
    head_seconds: float
    witness_ratio: float
    seconds: float
    device: str
    torch: str

    def clocks_differ(self, factor: float) -> bool:
        """Tell whether the witnesses differ by more than a factor."""
        return max(self.witness_ratio, 1 / self.witness_ratio) > factor


def job_of(case: Case, side: Side, plant: Plant = NOTHING) -> dict[str, Any]:
    """Return what a process of one side is told."""
    return {
        "target": side.target,
        "arguments": dict(side.arguments),
        "variant": side.variant or case.variant,
        "choices": dict(case.choices),
        "output_stride": case.output_stride,
        "num_classes": DEFAULT_CLASSES,
        "size": case.size,
        "batch": case.batch,
        "direction": case.direction,
        "mode": plant.mode or case.mode,
        "device": case.device,
        "threads": case.threads,
        "warm_up": WARM_UP,
        "wait": plant.wait,
    }


def run_pair(
    case: Case, base: Side, head: Side, timeout: float, *, head_first: bool = False, plant: Plant = NOTHING
) -> Pair:
    """Measure one pair.

    Args:
        case: What is timed.
        base: One side.
        head: The other.
        timeout: Seconds that a process may take for any answer.
        head_first: Which side begins.
        plant: What is done to head on purpose.

    Raises:
        TargetError: If a process fails, crashes or hangs, or is not of its side.
    """
    start = monotonic()
    with ExitStack() as stack:
        jobs = ((base, "base", job_of(case, base)), (head, "head", job_of(case, head, plant)))
        processes = [
            stack.enter_context(SamplingProcess(f"{role} ({side.name})", side.paths, job, timeout))
            for side, role, job in jobs
        ]
        facts = [process.ready() for process in processes]
        for side, fact in zip((base, head), facts, strict=True):
            side.require_origin(fact["origin"])
        if facts[0]["torch"] != facts[1]["torch"] or facts[0]["device"] != facts[1]["device"]:
            raise TargetError(head.name, "runs on another device or torch than base: times cannot be compared")
        rounds = []
        for number in range(case.rounds + 1):
            turn = (0, 1) if number % 2 == head_first else (1, 0)
            samples = {place: processes[place].sample() for place in turn}
            rounds.append((samples[0], samples[1]))
    counted = rounds[1:]
    return Pair(
        log_ratio=median(log(after.seconds / before.seconds) for before, after in counted),
        base_seconds=median(before.seconds for before, _ in counted),
        head_seconds=median(after.seconds for _, after in counted),
        witness_ratio=median(after.witness for _, after in counted) / median(before.witness for before, _ in counted),
        seconds=monotonic() - start,
        device=str(facts[0]["device"]),
        torch=str(facts[0]["torch"]),
    )

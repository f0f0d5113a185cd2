"""A pair: two fresh processes, one for each side, that take turns sample by sample.

Each waits without running while the other is timed, so the two times of a round lie a few hundredths of
a second apart and what disturbs the machine for longer disturbs both. The order turns from round to
round (ABBA). A pair is one observation: the median over its rounds of the logarithm of head's time over
base's.

Directly before every sample the process times a fixed piece of arithmetic: the clock's witness. A pair
whose clocks differ or move is dropped, for then the processor and not the code made the difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from statistics import median
from typing import Any, Final

from deeplab_spec.gate.cases import Case
from deeplab_spec.gate.process import Sample
from deeplab_spec.gate.sides import Side
from deeplab_spec.spec.network import DEFAULT_CLASSES

WARM_UP: Final = 3
"""Runs of each process before the first round; the first round is run, and not counted."""

CLOCK_FACTOR: Final = 1.15
"""Pairs whose clocks differ by more than this are dropped, and those where one moves so far from the other."""

DRIFT_FACTOR: Final = 1.5
"""Pairs in which both clocks move further than this are dropped; what moves both alike cancels in the ratio."""

_THIRDS_FROM: Final = 9
"""How many rounds have a first and a last third that say more than their noise."""

Round = tuple[Sample, Sample]


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
        apart: How far the clocks moved from each other during the rounds, as a factor; 1 if they did not.
        drift: How far the clock moved that moved further, likewise.
        mhz: Medians of the GPU's clock, of base and head; None where it is unknown.
        slowed_by: Why the GPU was slowed to protect it; empty where it was not, or where that is unknown.
        seconds: How long the pair took, with the start of both processes.
        device: What ran it, as the process says.
        torch: Version of torch.
        built: What was built for base and for head, with every argument.
    """

    log_ratio: float
    base_seconds: float
    head_seconds: float
    witness_ratio: float
    apart: float = 1.0
    drift: float = 1.0
    mhz: tuple[float, float] | None = None
    slowed_by: str = ""
    seconds: float
    device: str
    torch: str
    built: tuple[str, str] = ("", "")

    @property
    def disturbed(self) -> str:
        """Why the pair says nothing of the code; empty if it does."""
        if _beyond(self.witness_ratio, CLOCK_FACTOR) or (self.mhz and _beyond(self.mhz[1] / self.mhz[0], CLOCK_FACTOR)):
            return "the clocks differed"
        if _beyond(self.apart, CLOCK_FACTOR) or _beyond(self.drift, DRIFT_FACTOR):
            return "a clock moved"
        return f"the device was slowed ({self.slowed_by})" if self.slowed_by else ""


def _beyond(ratio: float, factor: float) -> bool:
    return max(ratio, 1 / ratio) > factor


def measured(rounds: Sequence[Round], facts: Sequence[Mapping[str, Any]], seconds: float) -> Pair:
    """Return what rounds of a pair say.

    Args:
        rounds: Samples of base and head, in order, without those that do not count.
        facts: What both processes say of themselves.
        seconds: How long the pair took.
    """
    witnesses = [(before.witness, after.witness) for before, after in rounds]
    clocks = [(before.mhz, after.mhz) for before, after in rounds if before.mhz and after.mhz]
    ratios = [after / before for before, after in witnesses]
    drifts = [_moved([witness[place] for witness in witnesses]) for place in (0, 1)]
    drifts += [_moved([clock[place] for clock in clocks]) for place in (0, 1) if clocks]
    return Pair(
        log_ratio=median(log(after.seconds / before.seconds) for before, after in rounds),
        base_seconds=median(before.seconds for before, _ in rounds),
        head_seconds=median(after.seconds for _, after in rounds),
        witness_ratio=median(after for _, after in witnesses) / median(before for before, _ in witnesses),
        apart=_moved(ratios),
        drift=max(drifts),
        mhz=(median(before for before, _ in clocks), median(after for _, after in clocks)) if clocks else None,
        slowed_by=next((sample.slowed_by for taken in rounds for sample in taken if sample.slowed_by), ""),
        seconds=seconds,
        device=str(facts[0]["device"]),
        torch=str(facts[0]["torch"]),
        built=(str(facts[0]["built"]), str(facts[1]["built"])),
    )


def _moved(values: Sequence[float]) -> float:
    """Return the factor between the medians of the first and the last third of values; 1 of few."""
    if len(values) < _THIRDS_FROM:
        return 1.0
    third = len(values) // 3
    first, last = median(values[:third]), median(values[-third:])
    return max(first / last, last / first)


def job_of(case: Case, side: Side, plant: Plant = NOTHING) -> dict[str, Any]:
    """Return what a process of one side is told."""
    return {
        "target": side.target,
        "arguments": dict(side.arguments),
        "variant": side.variant or case.variant,
        "choices": dict(case.choices),
        "output_stride": case.output_stride,
        "num_classes": DEFAULT_CLASSES,
        "required": case.required,
        "size": case.size,
        "batch": case.batch,
        "direction": case.direction,
        "mode": plant.mode or case.mode,
        "device": case.device,
        "threads": case.threads,
        "warm_up": WARM_UP,
        "wait": plant.wait,
    }

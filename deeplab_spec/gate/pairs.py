"""A pair: two fresh processes, one for each side, that are sampled in turn.

Each process waits without running while the other one is timed. The two times of a round lie a few
hundredths of a second apart, so that a longer disturbance of the machine affects both. The order
alternates from round to round (ABBA). A pair is one observation: the median over its rounds of the
logarithm of head's time over base's time.

Directly before every sample the process times a fixed piece of arithmetic, which shows the speed of the clock. A
pair whose clocks differ or change is dropped: the difference comes from the processor, not from the code.
"""

from collections.abc import Mapping, Sequence
from math import log
from statistics import median
from typing import Any, Final

from deeplab_spec.gate.cases import Case
from deeplab_spec.gate.document import NO_PLANT, PairModel, Plant
from deeplab_spec.gate.sides import Sample, Side
from deeplab_spec.spec.network import DEFAULT_CLASSES

WARM_UP: Final = 3
"""Runs of each process before the first round. The first round is not counted either."""

CLOCK_FACTOR: Final = 1.15
"""A pair is dropped if its clocks differ by more than this, or if their ratio changes by more than this."""

DRIFT_FACTOR: Final = 1.5
"""A pair is dropped if a clock changes by more than this. A smaller common change cancels in the ratio."""

_THIRDS_FROM: Final = 9
"""The number of rounds from which a change between the first and the last third is more than noise."""

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


def job_of(case: Case, side: Side, plant: Plant = NO_PLANT) -> dict[str, Any]:
    """Return what the process of one side builds and runs, as JSON values."""
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

"""Makes the rows of a profile of the steps that were measured."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from deeplab_spec.analysis.costs import BatchCost
from deeplab_spec.measure.roofline import Ceilings
from deeplab_spec.profile.document import BlockModel, CallModel, TimeModel
from deeplab_spec.profile.statistics import mean_interval
from deeplab_spec.profile.trace_blocks import Slice, Step, Uses


class Rows:
    """Makes rows of steps.

    Args:
        timed: Steps whose times count.
        detailed: Steps whose memory was recorded.
        costs: What every block computes and moves.
        ceilings: What the device can do at most; None for no roofline.
    """

    def __init__(
        self, timed: Sequence[Step], detailed: Sequence[Step], costs: Mapping[str, BatchCost], ceilings: Ceilings | None
    ) -> None:
        self.timed = timed
        self.on_device = any(step.device for step in timed)
        self.costs = costs
        self.ceilings = ceilings
        self.peaks: dict[str, int] = defaultdict(int)
        for step in detailed:
            for path, peak in step.peak.items():
                self.peaks[path] = max(self.peaks[path], peak)

    def row(self, path: str) -> BlockModel:
        """Return the row of a block."""
        parts = [step.slices.get(path, Slice()) for step in self.timed]
        return self._row(path, parts, self.costs.get(path), self.peaks.get(path))

    def total(self) -> BlockModel:
        """Return the row of the whole network."""
        parts = [
            Slice(
                host=step.host,
                device=step.device,
                operators=_sum(part.operators for part in step.slices.values()),
                kernels=_sum(part.kernels for part in step.slices.values()),
            )
            for step in self.timed
        ]
        cost = sum(self.costs.values(), start=BatchCost())
        return self._row("total", parts, cost, max(self.peaks.values(), default=None))

    def _row(self, path: str, parts: Sequence[Slice], cost: BatchCost | None, peak: int | None) -> BlockModel:
        host = _time([part.host for part in parts])
        device = _time([part.device for part in parts]) if self.on_device else None
        known = cost if cost and not cost.unknown else None
        seconds = (device or host).mean / 1e9
        least = self.ceilings.least_seconds(known.flops, known.moved) if self.ceilings and known else None
        return BlockModel(
            path=path,
            host=host,
            device=device,
            operators=_calls([part.operators for part in parts]),
            kernels=_calls([part.kernels for part in parts]) if self.on_device else None,
            flops=known.flops if known else None,
            bytes=known.moved if known else None,
            intensity=known.flops / known.moved if known and known.moved else None,
            roofline=least / seconds if least and seconds else None,
            peak_bytes=peak,
        )


def _time(steps: Sequence[int]) -> TimeModel:
    found = mean_interval(steps)
    return TimeModel(steps=tuple(steps), mean=found.mean, low=found.low, high=found.high)


def _sum(parts: Iterable[Mapping[str, Uses]]) -> dict[str, Uses]:
    total: dict[str, Uses] = defaultdict(Uses)
    for part in parts:
        for name, uses in part.items():
            total[name] += uses
    return dict(total)


def _calls(steps: Sequence[Mapping[str, Uses]]) -> tuple[CallModel, ...]:
    """Return means over the steps, the longest first."""
    total = sorted(_sum(steps).items(), key=lambda item: (-item[1].time, item[0]))
    count = len(steps)
    return tuple(CallModel(name=name, calls=uses.calls / count, time=uses.time / count) for name, uses in total)

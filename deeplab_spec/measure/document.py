"""The measured values in the JSON documents of several features."""

from deeplab_spec.views.document import Model


class CeilingsModel(Model):
    """The most that the device reached in the same process: FLOPs of a matrix product, bytes of a copy, per second."""

    flops_per_second: float
    bytes_per_second: float

    def least_seconds(self, flops: float, moved: float) -> float:
        """Return the shortest time for so many operations and bytes, which overlap.

        >>> CeilingsModel(flops_per_second=100, bytes_per_second=10).least_seconds(200, 30)
        3.0
        """
        return max(flops / self.flops_per_second, moved / self.bytes_per_second)


class RatioModel(Model):
    """How many times as fast as eager, from pairs of runs: the median, and an interval of it with its coverage."""

    median: float
    low: float
    high: float
    coverage: float


class IntervalModel(Model):
    """An estimate with its 95 % interval over the steps of both sides (Welch)."""

    mean: float
    low: float
    high: float

    @property
    def contains_zero(self) -> bool:
        """Whether no difference at all is among the values that the interval allows."""
        return self.low <= 0 <= self.high

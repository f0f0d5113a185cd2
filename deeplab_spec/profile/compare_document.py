"""The JSON document of ``compare``: two profiles, block by block.

A document's form is stable: a field may be added, and ``schema_version`` grows when one changes its
meaning or goes.
"""

from typing import Literal

from pydantic import model_validator

from deeplab_spec.analysis.terms import Mode
from deeplab_spec.profile.document import EAGER, DeviceModel
from deeplab_spec.views.document import Document, Model


class IntervalModel(Model):
    """An estimate with its 95 % interval over the steps of both sides (Welch)."""

    mean: float
    low: float
    high: float

    @property
    def contains_zero(self) -> bool:
        """Whether no difference at all is among the values that the interval allows."""
        return self.low <= 0 <= self.high


class CallChangeModel(Model):
    """An operator or kernel that only one side has, with its runs and nanoseconds per step there."""

    name: str
    kind: Literal["operator", "kernel"]
    change: Literal["appeared", "vanished"]
    calls: float
    time: float


class ChangeModel(Model):
    """What became of a block, in nanoseconds per step.

    ``before`` or ``after`` is null where that side lacks the block; ``slowdown`` is the part by which
    it takes longer (0.1 for 10 %), null where one side takes no time.
    """

    path: str
    before: float | None
    after: float | None
    delta: IntervalModel
    slowdown: IntervalModel | None
    calls: tuple[CallChangeModel, ...]

    @property
    def exceeds_noise(self) -> bool:
        """Whether the interval of the change excludes zero."""
        return not self.delta.contains_zero


class SideModel(Model):
    """What was profiled, and in which mode it ran."""

    target: str
    variant: str | None
    output_stride: int
    torch: str
    steps: int
    execution_mode: str = EAGER


class LimitModel(Model):
    """The slowdown of the total that is allowed, in percent, and whether it lies above it."""

    percent: float
    verdict: Literal["within", "over", "undecided"]


class CompareDocument(Document):
    """The document of ``compare``; the rows' ``delta.mean`` add up to the total's.

    ``mode`` is the direction: a forward pass, or both passes of a training step. ``exceeding`` is how many
    rows' changes exceed the noise: the interval of their ``delta`` does not contain zero. It is null where a
    document does not say it. Each interval has 95 %, so that one unchanged block in twenty exceeds it by chance.
    """

    before: SideModel
    after: SideModel
    device: DeviceModel
    size: tuple[int, int]
    batch: int
    dtype: str
    mode: Mode
    clock: Literal["host", "device"]
    total: ChangeModel
    rows: tuple[ChangeModel, ...]
    limit: LimitModel | None
    exceeding: int | None = None

    @model_validator(mode="after")
    def _counts(self) -> "CompareDocument":
        if self.exceeding not in (None, sum(row.exceeds_noise for row in self.rows)):
            raise ValueError("exceeding must be the number of rows whose interval does not contain zero")
        return self

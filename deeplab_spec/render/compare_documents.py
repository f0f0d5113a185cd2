"""The JSON document of ``compare``: two profiles, block by block.

A document's form is stable: a field may be added, and ``schema_version`` grows when one changes its
meaning or goes.
"""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from deeplab_spec.analysis.terms import Mode
from deeplab_spec.render.profile_documents import DeviceModel

COMPARE_SCHEMA_VERSION: Final = 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class IntervalModel(_Model):
    """An estimate with its 95 % interval over the steps of both sides (Welch)."""

    mean: float
    low: float
    high: float


class CallChangeModel(_Model):
    """An operator or kernel that only one side has, with its runs and nanoseconds per step there."""

    name: str
    kind: Literal["operator", "kernel"]
    change: Literal["appeared", "vanished"]
    calls: float
    time: float


class ChangeModel(_Model):
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


class SideModel(_Model):
    """What was profiled."""

    target: str
    variant: str | None
    output_stride: int
    torch: str
    steps: int


class LimitModel(_Model):
    """The slowdown of the total that is allowed, in percent, and whether it lies above it."""

    percent: float
    verdict: Literal["within", "over", "undecided"]


class CompareDocument(_Model):
    """The document of ``compare``; the rows' ``delta.mean`` add up to the total's."""

    schema_version: Literal[1] = COMPARE_SCHEMA_VERSION
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

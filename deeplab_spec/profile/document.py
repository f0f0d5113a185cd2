"""The JSON documents of ``profile``, the time of every block, and of ``compare``, two profiles block by block.

Times are whole nanoseconds of single steps, so that the blocks and the unattributed rest add up to the total
exactly.
"""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError, model_validator

from deeplab_spec.analysis.terms import Mode
from deeplab_spec.errors import TargetError
from deeplab_spec.measure.statistics import CeilingsModel, IntervalModel
from deeplab_spec.views.document import Document, Json, Model, read_bounded

FILE: Final = "profile.json"
"""The name of the document in the directory of a profile."""
TRACE: Final = "trace.json"
"""The trace that the times come from."""
TENSORBOARD: Final = Path("tensorboard", "deeplab-spec.pt.trace.json")
"""The trace with stacks, shapes and memory, as torch-tb-profiler reads it."""
_MOST_BYTES: Final = 64 * 2**20
EAGER: Final = "eager"
"""The mode that changes nothing; also the mode of documents without ``execution_mode``."""


Nanoseconds = Annotated[int, Field(ge=0, le=10**18)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class TimeModel(Model):
    """Nanoseconds of every step, their mean, and its 95 % interval over the steps."""

    steps: tuple[Nanoseconds, ...] = Field(min_length=2)
    mean: Finite
    low: Finite
    high: Finite


class CallModel(Model):
    """An operator of the host, or a kernel: its calls per step, and its nanoseconds without what it calls."""

    name: str
    calls: Finite
    time: Finite


class BlockModel(Model):
    """The time, work and memory of a block, or of the whole network.

    ``host`` is time on the host from call to return, with everything in between; ``device`` is the
    sum of the times of the kernels that the block launched, null without an accelerator.
    ``flops`` and ``bytes`` follow from the specification's formulas, for the whole batch; they are null where
    a part of the block is an operation without a formula. ``roofline`` is the least time at the
    ceilings, divided by the measured time (of the device, if there is one).
    ``peak_bytes`` is the most memory that was allocated while the block ran, beyond the memory at the
    beginning of the step.
    """

    path: str
    host: TimeModel
    device: TimeModel | None
    operators: tuple[CallModel, ...]
    kernels: tuple[CallModel, ...] | None
    flops: int | None
    bytes: int | None
    intensity: Finite | None
    roofline: Finite | None
    peak_bytes: int | None

    @property
    def time(self) -> TimeModel:
        """The device's time, or the host's where there is no device."""
        return self.device or self.host


class DeviceModel(Model):
    """The device that the network ran on; ``threads`` are the threads of one operator on the host."""

    kind: Literal["cpu", "cuda"]
    name: str
    threads: int


class ProfileDocument(Document):
    """The document of ``profile``.

    ``variant`` is the published network whose paths the blocks have; it is null for another network, whose blocks
    have the names of its modules. ``choices`` are the choices that differ from the variant's.
    ``mode`` is the direction: a forward pass, or both passes of a training step. ``execution_mode`` is the mode of
    ``bench``; in every mode, ``flops`` and ``bytes`` are those of the eager network in float32.
    """

    target: str
    arguments: dict[str, str]
    variant: str | None
    choices: Json
    output_stride: int
    classes: int
    size: tuple[int, int]
    batch: int
    dtype: Literal["float32"]
    mode: Mode
    steps: int
    warmup: int
    device: DeviceModel
    torch: str
    ceilings: CeilingsModel | None
    total: BlockModel
    blocks: tuple[BlockModel, ...]
    unattributed: BlockModel
    notes: tuple[str, ...] = ()
    execution_mode: str = EAGER

    @property
    def rows(self) -> tuple[BlockModel, ...]:
        """The blocks and the unattributed rest."""
        return (*self.blocks, self.unattributed)

    @model_validator(mode="after")
    def _adds_up(self) -> "ProfileDocument":
        for clock in ("host", "device"):
            times = [getattr(row, clock) for row in (self.total, *self.rows)]
            if len({time is None for time in times}) > 1 or (clock == "host" and None in times):
                raise ValueError(f"every row must have a {clock} time, or none")
            if times[0] is not None:
                total, *parts = [time.steps for time in times]
                if len({len(steps) for steps in (total, *parts)}) > 1 or total != tuple(
                    map(sum, zip(*parts, strict=True))
                ):
                    raise ValueError(f"the {clock} times of the rows must add up to the total")
        if len({row.path for row in self.rows}) < len(self.rows):
            raise ValueError("a block must occur once")
        return self


def read_profile(place: Path) -> ProfileDocument:
    """Read a document from its file, or from the directory of a profile.

    Raises:
        TargetError: If there is none, or it is not a profile.
    """
    file = place / FILE if place.is_dir() else place
    try:
        return ProfileDocument.model_validate_json(read_bounded(file, _MOST_BYTES))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise TargetError(str(file), f"is not a profile: {where}: {first['msg']}") from error


class CallChangeModel(Model):
    """An operator or kernel that only one side has, with its runs and nanoseconds per step there."""

    name: str
    kind: Literal["operator", "kernel"]
    change: Literal["appeared", "vanished"]
    calls: float
    time: float


class ChangeModel(Model):
    """The change of a block, in nanoseconds per step.

    ``before`` or ``after`` is null where that side has no such block; ``slowdown`` is the relative increase
    (0.1 for 10 %), null where one side takes no time.
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
    """The target of a profile, and its mode."""

    target: str
    variant: str | None
    output_stride: int
    torch: str
    steps: int
    execution_mode: str = EAGER


class LimitModel(Model):
    """The allowed slowdown of the total, in percent, and whether the slowdown is larger."""

    percent: float
    verdict: Literal["within", "over", "undecided"]


class CompareDocument(Document):
    """The document of ``compare``; the rows' ``delta.mean`` add up to the total's.

    ``mode`` is the direction: a forward pass, or both passes of a training step. ``exceeding`` is the number of
    rows whose change exceeds the noise: the interval of their ``delta`` does not contain zero. It is null in older
    documents. Each interval has 95 %, so that one unchanged block in twenty exceeds the noise by chance.
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

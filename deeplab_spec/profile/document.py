"""The JSON document of ``profile``: what every block of a network costs in time on one device.

A document's form is stable: a field may be added, and ``schema_version`` grows when one changes its
meaning or goes. Times are whole nanoseconds of single steps, so that the blocks and what is
unattributed add up to the total exactly.
"""

from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError, model_validator

from deeplab_spec.analysis.terms import Mode
from deeplab_spec.errors import TargetError
from deeplab_spec.views.document import Document, Json, Model

FILE: Final = "profile.json"
"""The name of the document in the directory of a profile."""
TRACE: Final = "trace.json"
"""The trace that the times come from."""
TENSORBOARD: Final = Path("tensorboard", "deeplab-spec.pt.trace.json")
"""The trace with stacks, shapes and memory, as torch-tb-profiler reads it."""
EAGER: Final = "eager"
"""The mode that changes nothing; documents that name no mode are of it."""


class TimeModel(Model):
    """Nanoseconds per step: every step's, their mean, and its 95 % interval over the steps."""

    steps: tuple[int, ...] = Field(min_length=2)
    mean: float
    low: float
    high: float


class CallModel(Model):
    """An operator of the host, or a kernel: how often it runs in a step, and nanoseconds by itself."""

    name: str
    calls: float
    time: float


class BlockModel(Model):
    """What a block, or the whole network, takes.

    ``host`` is time on the host from call to return, with everything in between; ``device`` is the
    time of the kernels that the block launched, one after the other, null without an accelerator.
    ``flops`` and ``bytes`` are those of the specification's formulas for the whole batch, null where
    a part of the block is an operation that no formula describes. ``roofline`` is the least time in
    which the ceilings let them pass, divided by the measured time (of the device, if there is one).
    ``peak_bytes`` is the most memory that was allocated while the block ran, beyond what was at the
    beginning of the step.
    """

    path: str
    host: TimeModel
    device: TimeModel | None
    operators: tuple[CallModel, ...]
    kernels: tuple[CallModel, ...] | None
    flops: int | None
    bytes: int | None
    intensity: float | None
    roofline: float | None
    peak_bytes: int | None

    @property
    def time(self) -> TimeModel:
        """The device's time, or the host's where there is no device."""
        return self.device or self.host


class CeilingsModel(Model):
    """What the device was seen to do at most in the same process: a matrix product, and a copy."""

    flops_per_second: float
    bytes_per_second: float


class DeviceModel(Model):
    """Where the network ran; ``threads`` are those of one operator on the host."""

    kind: Literal["cpu", "cuda"]
    name: str
    threads: int


class ProfileDocument(Document):
    """The document of ``profile``.

    ``variant`` is the published network whose paths the blocks have; null where the target is another
    network, whose blocks keep the names of its modules. ``choices`` are those that were decided otherwise.
    ``mode`` is the direction: a forward pass, or both passes of a training step. ``execution_mode`` is how
    the network ran, as ``bench`` names it; in another mode than ``eager``, ``flops`` and ``bytes`` are still
    those of the eager network in float32.
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
        """The blocks and what is unattributed."""
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
        TargetError: If there is none, or it is not of this form.
    """
    file = place / FILE if place.is_dir() else place
    try:
        return ProfileDocument.model_validate_json(file.read_bytes())
    except OSError as error:
        raise TargetError(str(file), f"cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise TargetError(str(file), f"is no profile: {where}: {first['msg']}") from error

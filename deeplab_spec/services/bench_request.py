"""What ``bench`` is asked for, and the jobs that it gives to its processes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter

from deeplab_spec.analysis.subject import Subject
from deeplab_spec.errors import SpecError
from deeplab_spec.graph.ops import Pair
from deeplab_spec.spec.choices import choose, read_overrides
from deeplab_spec.spec.network import DEFAULT_CLASSES
from deeplab_spec.spec.variants import NOTEBOOK, variant

if TYPE_CHECKING:
    from torch import nn

REFERENCE: Final = "reference"
DEVICES: Final = ("cpu", "cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One size of the work.

    Attributes:
        output_stride: Input pixels per pixel of the backbone's result.
        size: Height and width of the images.
        batch: How many images.
    """

    output_stride: int = 16
    size: Pair = (513, 513)
    batch: int = 1

    @property
    def title(self) -> str:
        """The case in one line."""
        return f"output stride {self.output_stride}, {self.batch}x3x{self.size[0]}x{self.size[1]}"


def cases(sizes: Sequence[Pair], batches: Sequence[int], output_strides: Sequence[int]) -> tuple[Case, ...]:
    """Return every combination."""
    return tuple(
        Case(output_stride=stride, size=size, batch=batch)
        for size, batch, stride in product(sizes, batches, output_strides)
    )


WIDE: Final = cases(((513, 513), (1024, 2048)), (1, 8, 32), (8, 16))
"""The cases of the wide table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    """Everything that decides what is timed.

    Attributes:
        target: What the user named; None for the published network.
        variant: Name of the published network.
        overrides: Choices decided otherwise, as ``NAME=VALUE``.
        arguments: Keyword arguments of a target, as text.
        classes: Channels of the logits.
        cases: The sizes of the work.
        modes: The modes to time; empty for those usual on the device.
        device: ``cpu`` or ``cuda``.
        runs: Timed runs of each mode.

    Raises:
        SpecError: If something has a value that it cannot have.
    """

    target: str | None = None
    variant: str = NOTEBOOK.name
    overrides: tuple[str, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)
    classes: int = DEFAULT_CLASSES
    cases: tuple[Case, ...] = (Case(),)
    modes: tuple[str, ...] = ()
    device: str = "cpu"
    runs: int = 5

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise SpecError("--device", f"must be one of {', '.join(DEVICES)}", self.device)
        if self.runs < 1:
            raise SpecError("--runs", "must be 1 or more", self.runs)
        if any(case.batch < 1 for case in self.cases):
            raise SpecError("--batch", "must be 1 or more", min(case.batch for case in self.cases))
        if self.target and not self.published and self.overrides:
            raise SpecError("--choose", "decides choices of a published network, not of a target", self.overrides[0])
        for case in self.cases:
            self.subject(case)

    @property
    def published(self) -> bool:
        """Whether the network is of the specification, not somebody's own."""
        return self.target is None or self.target.partition(":")[0] == REFERENCE

    def subject(self, case: Case) -> Subject:
        """Return the published network of a case; of a target, the one of its output stride and size."""
        name = (self.target or "").partition(":")[2] if self.published else ""
        named = variant(name or self.variant)
        return Subject(
            variant=named,
            choices=choose(named.choices, read_overrides(self.overrides)),
            output_stride=case.output_stride,
            size=case.size,
            classes=self.classes,
        )

    @property
    def title(self) -> str:
        """The network in a few words."""
        subject = self.subject(self.cases[0])
        chosen = ", ".join(self.overrides)
        name = subject.variant.name if self.published else str(self.target)
        return f"{name} with {chosen}" if chosen else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one process prepares: one mode of one network at one size.

    Attributes:
        target: ``reference:VARIANT`` or ``module:callable``.
        overrides: Choices of a reference decided otherwise.
        arguments: Keyword arguments of a target, as text.
        classes: Channels of the logits.
        output_stride: Input pixels per pixel of the backbone's result.
        size: Height and width of the images.
        batch: How many images.
        mode: Name of the mode, or ``onnxruntime``.
        device: Where it runs.
    """

    target: str
    overrides: tuple[str, ...]
    arguments: Mapping[str, str]
    classes: int
    output_stride: int
    size: Pair
    batch: int
    mode: str
    device: str

    def build(self) -> "nn.Module":
        """Build the network.

        Raises:
            TargetError: If it cannot be built.
        """
        from deeplab_spec.capture.target import Target, load

        target = Target(name=self.target, arguments=self.arguments, choices=read_overrides(self.overrides))
        return load(target, self.output_stride, self.classes).eval()


def job(request: BenchRequest, case: Case, mode: str) -> Job:
    """Return the job of one mode in one case."""
    name = request.target
    if name is None or request.published:
        name = f"{REFERENCE}:{request.subject(case).variant.name}"
    return Job(
        target=name,
        overrides=request.overrides,
        arguments=request.arguments,
        classes=request.classes,
        output_stride=case.output_stride,
        size=case.size,
        batch=case.batch,
        mode=mode,
        device=request.device,
    )


ADAPTER: Final = TypeAdapter(Job)
"""Reads and writes jobs as JSON."""

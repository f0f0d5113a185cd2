"""The request of ``bench``, its cases, and the jobs of its processes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from os import cpu_count
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter

from deeplab_spec.errors import SpecError
from deeplab_spec.graph.ops import Pair
from deeplab_spec.measure.parts import DEVICES
from deeplab_spec.spec.api import Subject
from deeplab_spec.spec.choices import choose, read_overrides
from deeplab_spec.spec.network import DEFAULT_CLASSES
from deeplab_spec.spec.variants import NOTEBOOK, REFERENCE, family_of, variant

if TYPE_CHECKING:
    from torch import nn

DEADLINE: Final = 900.0
"""Seconds that a mode may take to be prepared, and for any other answer."""

_MOST_JOBS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One network and one size of its input.

    Attributes:
        variant: Name of the published network; empty for the request's.
        output_stride: Input pixels per pixel of the backbone's output.
        size: Height and width of the images.
        batch: Number of images.
    """

    variant: str = ""
    output_stride: int = 16
    size: Pair = (513, 513)
    batch: int = 1

    @property
    def title(self) -> str:
        """The case in one line."""
        prefix = f"{self.variant}, " if self.variant else ""
        return f"{prefix}output stride {self.output_stride}, {self.batch}x3x{self.size[0]}x{self.size[1]}"


def cases(
    sizes: Sequence[Pair], batches: Sequence[int], output_strides: Sequence[int], variants: Sequence[str] = ("",)
) -> tuple[Case, ...]:
    """Return every combination; cases that differ in the batch only are neighbours."""
    return tuple(
        Case(variant=name, output_stride=stride, size=size, batch=batch)
        for name, size, stride, batch in product(variants, sizes, output_strides, batches)
    )


WIDE_SIZES: Final = ((513, 513), (1024, 2048))
WIDE_BATCHES: Final = (1, 8, 32)
WIDE_STRIDES: Final = (8, 16)


def default_jobs(device: str) -> int:
    """Return the default number of modes that are prepared side by side."""
    cores = cpu_count() or 1
    return min(_MOST_JOBS, max(1, cores // 2 if device == "cuda" else cores))


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    """Everything that decides what is timed.

    Attributes:
        target: The target; None for the published network.
        variant: Name of the published network, for the cases without a variant.
        overrides: Choices that differ from the variant's, as ``NAME=VALUE``.
        arguments: Keyword arguments of a target, as text.
        classes: Channels of the logits.
        cases: The networks and sizes to time.
        modes: The modes to time; empty for the device's default modes.
        device: ``cpu`` or ``cuda``.
        runs: Timed runs of each mode.
        jobs: Modes that are prepared side by side; 0 for the device's default.
        time_budget: Seconds for everything; cases that do not fit are listed as left out. None for no limit.
        deadline: Seconds that a mode may take to be prepared, and for any other answer.

    Raises:
        SpecError: If a value is not possible.
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
    jobs: int = 0
    time_budget: float | None = None
    deadline: float = DEADLINE

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise SpecError("--device", f"must be one of {', '.join(DEVICES)}", self.device)
        if self.runs < 1:
            raise SpecError("--runs", "must be 1 or more", self.runs)
        if self.jobs < 0:
            raise SpecError("--jobs", "must be 1 or more", self.jobs)
        for name, seconds in (("--time-budget", self.time_budget), ("--deadline", self.deadline)):
            if seconds is not None and not seconds > 0:
                raise SpecError(name, "must be a positive number of seconds", seconds)
        if any(case.batch < 1 for case in self.cases):
            raise SpecError("--batch", "must be 1 or more", min(case.batch for case in self.cases))
        if self.target and not self.published and self.overrides:
            raise SpecError("--choose", "decides choices of a published network, not of a target", self.overrides[0])
        for case in self.cases:
            self.subject(case)

    @property
    def published(self) -> bool:
        """Whether the network is the specification's, not a user's."""
        return self.target is None or self.target.partition(":")[0] == REFERENCE

    @property
    def workers(self) -> int:
        """The number of modes that are prepared side by side."""
        return self.jobs or default_jobs(self.device)

    def subject(self, case: Case) -> Subject:
        """Return the published network of a case; for a user's target, one with its output stride and size."""
        name = (self.target or "").partition(":")[2] if self.published else ""
        entry = variant(name or case.variant or self.variant)
        return Subject(
            variant=entry,
            choices=choose(entry.choices, read_overrides(self.overrides, entry.family)),
            output_stride=case.output_stride,
            size=case.size,
            classes=self.classes,
        )

    def network(self, case: Case) -> str:
        """Return the network of a case in a few words."""
        chosen = ", ".join(self.overrides)
        name = self.subject(case).variant.name if self.published else str(self.target)
        return f"{name} with {chosen}" if chosen else name

    @property
    def title(self) -> str:
        """The networks in a few words."""
        return ", ".join(dict.fromkeys(map(self.network, self.cases)))

    @property
    def groups(self) -> tuple[tuple[Case, ...], ...]:
        """The cases in groups that share their processes because they differ in the batch only."""
        groups: dict[tuple[str, int, Pair], list[Case]] = {}
        for case in self.cases:
            groups.setdefault((case.variant, case.output_stride, case.size), []).append(case)
        return tuple(map(tuple, groups.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The task of one process: one mode of the network of a case, and of the cases that share its process."""

    request: BenchRequest
    case: Case
    mode: str

    def build(self) -> "nn.Module":
        """Build the network.

        Raises:
            TargetError: If it cannot be built.
        """
        from deeplab_spec.capture.target import Target, build_here

        request, name = self.request, self.request.target
        if name is None or request.published:
            name = f"{REFERENCE}:{request.subject(self.case).variant.name}"
        choices = read_overrides(request.overrides, family_of(name))
        target = Target(name=name, arguments=request.arguments, choices=choices)
        return build_here(target, self.case.output_stride, request.classes).eval()


ADAPTER: Final = TypeAdapter(Job)
"""Reads and writes jobs as JSON."""

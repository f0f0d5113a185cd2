"""The named cases: what is timed, and what each of them can show that the others cannot."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from deeplab_spec.errors import SpecError
from deeplab_spec.gate.modes import FOLDED, MODES
from deeplab_spec.graph.ops import Pair
from deeplab_spec.measure.parts import EAGER
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE

DEVICES: Final = ("cpu", "cuda")
PASSES: Final = ("forward", "train")
Pass = Literal["forward", "train"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing that is timed.

    Attributes:
        name: Its name on the command line.
        reason: What it can show.
        device: ``cpu`` or ``cuda``.
        variant: The network, for a side whose builder has an argument of this name.
        choices: Decisions of the network, likewise.
        output_stride: Input pixels per pixel of the backbone's result, likewise.
        size: Height and width of the images.
        batch: How many images.
        direction: A forward pass, or a training step.
        mode: How it runs: of :data:`~deeplab_spec.gate.modes.MODES`, joined by ``+``.
        rounds: Samples of each process.
        threads: Threads of each process.
        required: Of variant, choices and output stride those that the user decided: a builder that does not take
            them cannot be timed.

    Raises:
        SpecError: If the device, mode or direction does not exist, or a number is not positive.
    """

    name: str
    reason: str
    device: Literal["cpu", "cuda"]
    variant: str = NOTEBOOK.name
    choices: Mapping[str, str | float] = field(default_factory=dict)
    output_stride: int = 16
    size: Pair
    batch: int = 1
    direction: Pass = "forward"
    mode: str = EAGER
    rounds: int
    threads: int = 1
    required: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if set(self.mode.split("+")) - set(MODES):
            raise SpecError("mode", f"must be of {', '.join(MODES)}, joined by +", self.mode)
        for name, value, known in (("direction", self.direction, PASSES), ("device", self.device, DEVICES)):
            if value not in known:
                raise SpecError(name, f"must be one of {', '.join(known)}", value)
        numbers = (*self.size, self.batch, self.rounds, self.threads, self.output_stride)
        if min(numbers) < 1:
            raise SpecError(self.name, "size, batch, rounds, threads and output stride must be 1 or more", numbers)
        if self.direction == "train" and FOLDED in self.mode.split("+"):
            raise SpecError(self.name, "a folded network cannot be trained", self.mode)

    @property
    def title(self) -> str:
        """What the case decides, whatever is built: images, direction, mode and device."""
        height, width = self.size
        return f"{self.batch}x3x{height}x{width}, {self.direction}, {self.mode}, {self.device}"


_QUARTER: Final = {"width": 0.25}

CPU_FORWARD: Final = Case(
    name="cpu-forward",
    reason="every operator of the network once: a lost fusion, an extra copy, a slower operator shows here",
    device="cpu",
    choices=_QUARTER,
    size=(97, 97),
    rounds=60,
)

CASES: Final = (
    CPU_FORWARD,
    Case(
        name="cpu-channels-last",
        reason="the memory format that fast convolutions want: a copy back to the other format shows here",
        device="cpu",
        choices=_QUARTER,
        size=(97, 97),
        mode="channels_last",
        rounds=60,
    ),
    Case(
        name="cpu-os8",
        reason="larger maps and doubled rates: what is bound by memory, and atrous convolutions, weigh most here",
        device="cpu",
        variant=TF_RELEASE.name,
        choices=_QUARTER,
        output_stride=8,
        size=(97, 97),
        rounds=40,
    ),
    Case(
        name="cpu-train",
        reason="the backward pass: a gradient that is computed twice, or kept for nothing, shows here",
        device="cpu",
        choices=_QUARTER,
        size=(65, 65),
        batch=2,
        direction="train",
        rounds=30,
    ),
    Case(
        name="gpu-latency",
        reason="one image: the time to launch kernels, so that one more kernel shows",
        device="cuda",
        size=(513, 513),
        rounds=60,
    ),
    Case(
        name="gpu-throughput",
        reason="a batch in the mode that people serve: matrix units and memory are busy",
        device="cuda",
        size=(513, 513),
        batch=8,
        mode="channels_last+autocast-bfloat16",
        rounds=60,
    ),
    Case(
        name="gpu-os8",
        reason="atrous depthwise convolutions on large maps, where the choice of kernel decides",
        device="cuda",
        variant=TF_RELEASE.name,
        output_stride=8,
        size=(513, 513),
        batch=8,
        mode="channels_last+autocast-bfloat16",
        rounds=40,
    ),
    Case(
        name="gpu-train",
        reason="the training step in mixed precision: backward kernels and their memory",
        device="cuda",
        size=(513, 513),
        batch=8,
        direction="train",
        mode="channels_last+autocast-bfloat16",
        rounds=30,
    ),
)
DEFAULT_CASES: Final = (CPU_FORWARD.name,)
_FIRST_OF: Final = {"cpu": CPU_FORWARD.name, "cuda": "gpu-latency"}


def case(name: str) -> Case:
    """Return the case of a name.

    Raises:
        SpecError: If there is none.
    """
    for candidate in CASES:
        if candidate.name == name:
            return candidate
    raise SpecError("--case", f"must be one of {', '.join(entry.name for entry in CASES)}", name)


def case_for(device: str) -> Case:
    """Return the case that is timed on a device unless another is named.

    Raises:
        SpecError: If the device does not exist.
    """
    if device not in _FIRST_OF:
        raise SpecError("--device", f"must be one of {', '.join(DEVICES)}", device)
    return case(_FIRST_OF[device])


def changed(entry: Case, changes: Mapping[str, Any]) -> Case:
    """Return a case with fields of the user's own, under a name that says so; as it is if nothing changes.

    Choices are added to those of the case.

    Raises:
        SpecError: If it cannot be run.

    >>> changed(CPU_FORWARD, {"batch": 2}).name
    'cpu-forward-changed'
    """
    if not changes:
        return entry
    values = dict(changes)
    if "choices" in values:
        values["choices"] = {**entry.choices, **values["choices"]}
    required = tuple(name for name in ("variant", "choices", "output_stride") if name in changes)
    reason = "what the options of the command say"
    return replace(entry, **values, name=f"{entry.name}-changed", reason=reason, required=required)

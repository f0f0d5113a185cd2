"""The named cases: what is timed, and what each of them can show that the others cannot."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from deeplab_spec.errors import SpecError
from deeplab_spec.graph.ops import Pair
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE

MODES: Final = ("eager", "channels_last", "folded", "compiled", "tf32", "bf16", "fp16")
"""What a mode is made of; several are joined by ``+``."""

PASSES: Final = ("forward", "train")
Pass = Literal["forward", "train"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing that is timed.

    Attributes:
        name: Its name on the command line.
        reason: What it can show.
        device: ``cpu`` or ``cuda``.
        variant: The network, where the side builds it by name.
        choices: Decisions of the network, likewise.
        output_stride: Input pixels per pixel of the backbone's result.
        size: Height and width of the images.
        batch: How many images.
        direction: A forward pass, or a training step.
        mode: How it runs: of :data:`MODES`, joined by ``+``.
        rounds: Samples of each process.
        threads: Threads of each process.

    Raises:
        SpecError: If the mode or direction does not exist, or a number is not positive.
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
    mode: str = "eager"
    rounds: int
    threads: int = 1

    def __post_init__(self) -> None:
        unknown = set(self.mode.split("+")) - set(MODES)
        if unknown:
            raise SpecError("mode", f"must be of {', '.join(MODES)}, joined by +", self.mode)
        if self.direction not in PASSES:
            raise SpecError("direction", f"must be one of {', '.join(PASSES)}", self.direction)
        numbers = (*self.size, self.batch, self.rounds, self.threads)
        if min(numbers) < 1:
            raise SpecError(self.name, "size, batch, rounds and threads must be 1 or more", numbers)
        if self.direction == "train" and "folded" in self.mode:
            raise SpecError(self.name, "a folded network cannot be trained", self.mode)

    @property
    def title(self) -> str:
        """The case in one line."""
        height, width = self.size
        chosen = "".join(f", {name}={value}" for name, value in self.choices.items())
        return (
            f"{self.variant}{chosen}, output stride {self.output_stride}, {self.batch}x3x{height}x{width}, "
            f"{self.direction}, {self.mode}, {self.device}"
        )


_QUARTER: Final = {"width": 0.25}

CPU_FORWARD: Final = Case(
    name="cpu-forward",
    reason="every operator of the network once: a lost fusion, an extra copy, a slower operator shows here",
    device="cpu",
    choices=_QUARTER,
    size=(97, 97),
    rounds=40,
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
        rounds=40,
    ),
    Case(
        name="cpu-os8",
        reason="larger maps and doubled rates: what is bound by memory, and atrous convolutions, weigh most here",
        device="cpu",
        variant=TF_RELEASE.name,
        choices=_QUARTER,
        output_stride=8,
        size=(97, 97),
        rounds=30,
    ),
    Case(
        name="cpu-train",
        reason="the backward pass: a gradient that is computed twice, or kept for nothing, shows here",
        device="cpu",
        choices=_QUARTER,
        size=(65, 65),
        batch=2,
        direction="train",
        rounds=20,
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
        mode="channels_last+bf16",
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
        mode="channels_last+bf16",
        rounds=40,
    ),
    Case(
        name="gpu-train",
        reason="the training step in mixed precision: backward kernels and their memory",
        device="cuda",
        size=(513, 513),
        batch=8,
        direction="train",
        mode="channels_last+bf16",
        rounds=30,
    ),
)
DEFAULT_CASES: Final = (CPU_FORWARD.name,)


def case(name: str) -> Case:
    """Return the case of a name.

    Raises:
        SpecError: If there is none.
    """
    for candidate in CASES:
        if candidate.name == name:
            return candidate
    raise SpecError("--case", f"must be one of {', '.join(entry.name for entry in CASES)}", name)

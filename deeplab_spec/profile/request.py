"""The request of ``profile``."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from deeplab_spec.analysis.terms import Mode
from deeplab_spec.errors import SpecError
from deeplab_spec.graph.ops import Pair
from deeplab_spec.measure.parts import DEVICES, EAGER
from deeplab_spec.spec.choices import ChoiceValue, choose
from deeplab_spec.spec.network import DEFAULT_CLASSES
from deeplab_spec.spec.variants import REFERENCE, Variant
from deeplab_spec.spec.variants import variant as published


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRequest:
    """Everything that decides a profile.

    Attributes:
        target: ``reference:VARIANT``, or ``module:callable``.
        variant: The published network whose paths the blocks get; by default the nearest.
        overrides: Choices that differ from the variant's.
        arguments: Keyword arguments of the callable, as text.
        output_stride: Passed to the callable.
        classes: Passed to the callable.
        size: Height and width of the images.
        batch: Images per step.
        steps: Timed steps.
        warmup: Steps before them.
        device: ``cpu`` or ``cuda``.
        direction: A forward pass in evaluation mode, or a forward and a backward pass.
        mode: A mode of ``bench``; in another mode than ``eager`` the direction must be a forward pass.
        ceilings: Whether the device's ceilings are measured; for ``eager`` only.

    Raises:
        SpecError: If a number, the device or the mode is not possible.
    """

    target: str
    variant: str | None = None
    overrides: Mapping[str, ChoiceValue] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    output_stride: int = 16
    classes: int = DEFAULT_CLASSES
    size: Pair = (513, 513)
    batch: int = 1
    steps: int = 10
    warmup: int = 3
    device: str = "cpu"
    direction: Mode = Mode.FORWARD
    mode: str = EAGER
    ceilings: bool = True

    def __post_init__(self) -> None:
        least = {"batch": 1, "steps": 2, "warmup": 0, "classes": 1}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise SpecError(f"--{name}", f"must be {minimum} or more", getattr(self, name))
        if self.device not in DEVICES:
            raise SpecError("--device", f"must be one of {', '.join(DEVICES)}", self.device)
        if self.mode in set(Mode):
            raise SpecError("--mode", "is a mode of bench; the direction is --direction", self.mode)
        if self.mode != EAGER and self.direction is Mode.TRAIN:
            raise SpecError("--direction", f"must be {Mode.FORWARD} in another mode than {EAGER}", self.direction.value)
        if self.overrides and not self.expected:
            raise SpecError("--choose", "needs --variant, or a reference", ", ".join(self.overrides))

    @property
    def expected(self) -> Variant | None:
        """The published network with the request's choices; None if the nearest one must be found.

        Raises:
            SpecError: If there is no such variant or choice.
        """
        kind, _, name = self.target.partition(":")
        name = self.variant or (name if kind == REFERENCE else "")
        if not name:
            return None
        entry = published(name)
        return replace(entry, choices=choose(entry.choices, self.overrides))

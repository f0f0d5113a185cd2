"""What a user asks of the gate: two sides, the cases, and how they are compared."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from deeplab_spec.errors import SpecError
from deeplab_spec.gate.cases import CPU_FORWARD, Case
from deeplab_spec.gate.document import NO_PLANT, Plant
from deeplab_spec.gate.rule import Rule
from deeplab_spec.gate.sides import BUILD


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the gate compares.

    Attributes:
        rule: When a case is decided.
        count_margin: The relative increase of an exact count that fails.
        timeout: Seconds that a process may take for one answer.
        allow_different: Whether two different networks may be timed.
        plant: The slowdown that is planted in head.
        ahead: How many pairs are started together; None for as many as the machine has cores for.

    Raises:
        SpecError: If ``count_margin`` is negative, ``timeout`` is not positive, or ``ahead`` is less than 1.
    """

    rule: Rule = field(default_factory=Rule)
    count_margin: float = 0.01
    timeout: float = 120.0
    allow_different: bool = False
    plant: Plant = NO_PLANT
    ahead: int | None = None

    def __post_init__(self) -> None:
        if self.count_margin < 0:
            raise SpecError("--count-margin", "must not be negative", self.count_margin)
        if self.timeout <= 0:
            raise SpecError("--timeout", "must be positive", self.timeout)
        if self.ahead is not None and self.ahead < 1:
            raise SpecError("--ahead", "must be 1 or more", self.ahead)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRequest:
    """One comparison.

    Attributes:
        base: What head is compared with: a target, a directory, ``ref:NAME``, or a wheel.
        head: What must not be slower, in one of the same forms.
        cases: What is timed.
        target: What is built from a directory, ref or wheel, as ``module:callable``.
        arguments: Keyword arguments of the target, as text.
        settings: How the gate compares.

    Raises:
        SpecError: If there is no case, or a case cannot run in the planted mode.
    """

    base: str
    head: str
    cases: tuple[Case, ...] = (CPU_FORWARD,)
    target: str = BUILD
    arguments: Mapping[str, str] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        if not self.cases:
            raise SpecError("--case", "there must be a case", "none")
        if self.settings.plant.mode:
            for case in self.cases:
                replace(case, mode=self.settings.plant.mode)  # raises for a case that cannot run in this mode

"""What was observed of a candidate in training."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from deeplab_spec.judge.deviation import Deviation
from deeplab_spec.spec.distributions import Distribution

NO_GRADIENT: Final = 1e-11
"""A gradient below this, over the largest of the network, is rounding: that of an offset that the next normalisation
takes away is at 1e-15, the smallest of any other seen at 1e-4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """How far the running statistics of a normalisation moved towards the batch's in one step.

    Attributes:
        path: The specification's normalisation.
        candidate_path: The candidate's module.
        expected: The specified momentum; None if what the candidate is held against does not state it.
        mean: Momentum of the running mean; None if it has no place.
        variance: Momentum of the running variance; None if it has no place.
        spread: Largest difference between two channels; a momentum has none.
    """

    path: str
    candidate_path: str | None
    expected: float | None
    mean: float | None
    variance: float | None
    spread: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradient:
    """The gradient of one parameter.

    Attributes:
        path: The specification's node.
        role: ``weight`` or ``bias``.
        candidate_path: The candidate's parameter.
        origin: The node nearest to the results whose parameters have no gradient either.
        expected: Size of the oracle's, over the largest of the network.
        actual: Size of the candidate's, likewise; None if there is none.
    """

    path: str
    role: str
    candidate_path: str | None
    origin: str
    expected: float
    actual: float | None

    @property
    def wanted(self) -> bool:
        """Whether the oracle's is more than rounding."""
        return self.expected > NO_GRADIENT

    @property
    def reaches(self) -> bool:
        """Whether the parameter gets a gradient, where it must."""
        if self.actual is None:
            return not self.wanted
        return math.isfinite(self.actual) and (self.actual > NO_GRADIENT or not self.wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place at which values are dropped.

    Attributes:
        path: The specification's dropout, or the candidate's module.
        kind: What is dropped.
        probability: The chance of a value to be dropped.
        follows: The specification's node whose value is dropped; None if it is not known.
        reads: The node before any ReLU of that: dropping before a ReLU and behind it is the same.
    """

    path: str
    kind: str
    probability: float
    follows: str | None = None
    reads: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DropoutEffect:
    """What dropout does to the results, in float32, over several seeds.

    Attributes:
        expected: What the specification drops.
        actual: What the candidate was seen dropping; empty also if it draws by hand.
        oracle: Statistics of the oracle's results by name, one number for each seed.
        candidate: Those of the candidate's results.
        reason: Why the results could not be compared.
        stated: Whether what the candidate is held against says what is dropped.
    """

    expected: tuple[Site, ...] = ()
    actual: tuple[Site, ...] = ()
    oracle: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    candidate: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    reason: str = ""
    stated: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The initial values of a tensor, or of several.

    Attributes:
        path: The specification's node; of several tensors, the first.
        role: ``weight``, ``bias``, ``running_mean`` or ``running_var``.
        candidate_path: The candidate's tensor; None for several.
        tensors: How many tensors.
        count: How many values.
        mean: Their mean.
        square: Their mean square.
        greatest: The largest magnitude.
        tested: Values by which the distribution functions are compared.
        fits: The specified distribution, and those of other decisions, with the largest difference between its
            distribution function and that of the values; of a constant, the largest difference of a value.
    """

    path: str
    role: str
    candidate_path: str | None
    tensors: int = 1
    count: int
    mean: float
    square: float
    greatest: float
    tested: int
    fits: tuple[tuple[str, Distribution, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Initial:
    """The weights that a candidate was built with.

    Attributes:
        samples: Every tensor; then those of one shape together.
        not_applicable: Why they are not judged.
    """

    samples: tuple[Sample, ...] = ()
    not_applicable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOfOne:
    """A batch of one in training.

    Attributes:
        error: What the candidate raised; empty if it answered.
        finite: Whether the results were finite.
        not_applicable: Why the specification does not accept it.
    """

    error: str = ""
    finite: bool = True
    not_applicable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Everything that was observed in training.

    Attributes:
        reason: Why nothing was; empty if something was.
        not_applicable: Why there is no training of the candidate; empty if there is.
        error: What the candidate raised on a batch that it must take; empty if it answered.
        incomparable: Why its values cannot be compared with the oracle's; empty if they can.
        repeatable: Whether two calls with the same weights give the same, once its dropout is inactive.
        movements: Of every normalisation.
        frozen: Normalisations that use their running statistics in training.
        statistics: Running statistics after known steps.
        gradients: Of every parameter.
        backward: What differentiating raised.
        step: Parameters after one step.
        noise: What dropout does.
        initial: The weights that it was built with.
        alone: A batch of one.
    """

    reason: str = ""
    not_applicable: str = ""
    error: str = ""
    incomparable: str = ""
    repeatable: bool = True
    movements: tuple[Movement, ...] = ()
    frozen: tuple[str, ...] = ()
    statistics: tuple[Deviation, ...] = ()
    gradients: tuple[Gradient, ...] = ()
    backward: str = ""
    step: tuple[Deviation, ...] = ()
    dropout_effect: DropoutEffect | None = None
    initial: Initial | None = None
    batch_of_one: BatchOfOne | None = None

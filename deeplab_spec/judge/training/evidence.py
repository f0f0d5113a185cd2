"""The evidence about a candidate in training."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from deeplab_spec.judge.finding import Deviation
from deeplab_spec.spec.distributions import Distribution

NO_GRADIENT: Final = 1e-11
"""A gradient below this, over the largest of the network, is rounding: the gradient of a bias that the next
normalisation removes is at 1e-15, the smallest other one observed is at 1e-4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """The measured momentum of the running statistics of a normalisation.

    Attributes:
        path: The specification's normalisation.
        candidate_path: The candidate's module.
        expected: The specified momentum; None if the other network does not state it.
        mean: Momentum of the running mean; None if it has no place.
        variance: Momentum of the running variance; None if it has no place.
        spread: Largest difference between two channels; 0 for a momentum.
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
        expected: Norm of the oracle's gradient, over the largest of the network.
        actual: Norm of the candidate's gradient, likewise; None if there is none.
    """

    path: str
    role: str
    candidate_path: str | None
    origin: str
    expected: float
    actual: float | None

    @property
    def expected_nonzero(self) -> bool:
        """Whether the oracle's gradient is more than rounding."""
        return self.expected > NO_GRADIENT

    @property
    def reaches(self) -> bool:
        """Whether the parameter has a gradient, if it must have one."""
        if self.actual is None:
            return not self.expected_nonzero
        return math.isfinite(self.actual) and (self.actual > NO_GRADIENT or not self.expected_nonzero)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A dropout of a network.

    Attributes:
        path: The specification's dropout, or the candidate's module.
        kind: The kind of dropout.
        probability: The probability that a value is dropped.
        follows: The specification's node whose value is dropped; None if it is unknown.
        reads: That node, or the node before it if it is a ReLU: dropout before and after a ReLU is the same.
    """

    path: str
    kind: str
    probability: float
    follows: str | None = None
    reads: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DropoutEffect:
    """The effect of dropout on the results, in float32, over several seeds.

    Attributes:
        expected: The dropouts of the specification.
        actual: The recorded dropouts of the candidate; those written by hand are not recorded.
        oracle: Statistics of the oracle's results by name, one number per seed.
        candidate: Statistics of the candidate's results.
        reason: Why the results could not be compared.
        stated: Whether the other network states its dropout.
    """

    expected: tuple[Site, ...] = ()
    actual: tuple[Site, ...] = ()
    oracle: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    candidate: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    reason: str = ""
    stated: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The initial values of one tensor, or of several together.

    Attributes:
        path: The specification's node; for several tensors, the first.
        role: ``weight``, ``bias``, ``running_mean`` or ``running_var``.
        candidate_path: The candidate's tensor; None for several.
        tensors: The number of tensors.
        count: The number of values.
        mean: Their mean.
        square: Their mean square.
        greatest: The largest magnitude.
        tested: The number of values that the distribution functions are compared at.
        fixed: Whether another build, with another seed, has the same values.
        fits: The specified distribution and those of other choices, by name, each with the largest difference between
            its distribution function and that of the values; for a constant, the largest difference of a value.
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
    fixed: bool = False
    fits: Mapping[str, tuple[Distribution, float]]


class Joint(StrEnum):
    """A test whether initial values are independent."""

    SUMS = "sums"
    SIZES = "norms"
    PAIR = "correlation of two channels"
    TOGETHER = "correlations of all channels"
    SERIAL = "values"
    SERIAL_MAGNITUDES = "magnitudes"
    REPEATED = "repeated values"
    EVEN = "evenly spaced values"
    OTHER = "another tensor in the same order"
    OTHER_ORDER = "another tensor in another order"
    BUILDS = "another build"


@dataclass(frozen=True, slots=True, kw_only=True)
class JointTest:
    """The result of a test whether the initial values of a tensor are independent.

    Attributes:
        test: The test.
        path: The specification's node.
        role: ``weight`` or ``bias``.
        candidate_path: The candidate's tensor.
        actual: What was observed, in words.
        log_chance: Logarithm of a bound on the probability of such values, if they are drawn correctly.
    """

    test: Joint
    path: str
    role: str
    candidate_path: str
    actual: str
    log_chance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Initial:
    """The weights that a candidate was built with.

    Attributes:
        samples: Every tensor; then all tensors whose distributions have the same shape together.
        joint: The joint tests of every tensor that is drawn.
        planted: Those of one of these tensors, with equal values for all output channels.
        not_applicable: Why they are not judged.
        undecided: Why they cannot be judged.
        of_backbone: The choice that decides the backbone's distribution.
    """

    samples: tuple[Sample, ...] = ()
    joint: tuple[JointTest, ...] = ()
    planted: tuple[JointTest, ...] = ()
    not_applicable: str = ""
    undecided: str = ""
    of_backbone: str = "init"

    def choice(self, path: str) -> str:
        """Return the choice that decides the distribution of a convolution."""
        return self.of_backbone if path.startswith("backbone.") else "init"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOfOne:
    """The result of a batch of one in training.

    Attributes:
        error: The error that the candidate raised; empty if there was none.
        finite: Whether the results were finite.
        not_applicable: Why the specification does not accept it.
    """

    error: str = ""
    finite: bool = True
    not_applicable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The evidence from training.

    Attributes:
        not_applicable: Why the candidate cannot be trained; empty if it can.
        error: The error that the candidate raised on a legal batch; empty if there was none.
        incomparable: Why its values cannot be compared with the oracle's; empty if they can.
        repeatable: Whether two calls with the same weights agree, with dropout disabled.
        movements: The measured momentum of every normalisation.
        frozen: Normalisations that use their running statistics in training.
        statistics: Deviations of the running statistics after two batches.
        gradients: The gradient of every parameter.
        backward: The error that the backward pass raised.
        step: Deviations of the parameters after one SGD step.
        dropout_effect: The effect of dropout.
        initial: The weights that it was built with.
        batch_of_one: The result of a batch of one.
        of_backbone: The choice that decides the momentum of the backbone's normalisations.
    """

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
    of_backbone: str = "norm_momentum"

    def moved_by(self, choice: str) -> "Trained":
        """Return the evidence of the normalisations whose momentum a choice decides."""
        mine = (each for each in self.movements if self.choice(each.path) == choice)
        return replace(self, movements=tuple(mine))

    def choice(self, path: str) -> str:
        """Return the choice that decides the momentum of a normalisation."""
        return self.of_backbone if path.startswith("backbone.") else "norm_momentum"

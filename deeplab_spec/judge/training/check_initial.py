"""Decides INITIALISATION: whether weights can have been drawn from the specified distribution.

Every test bounds the probability of rejecting correctly drawn values, for any number of values: with Chernoff's bound
for squares of normal values, Bernstein's for bounded values, and the inequality of Dvoretzky, Kiefer and Wolfowitz for
the distribution function. The probabilities of all tests at an output stride add up to at most :data:`RATE`.
"""

import math
from collections.abc import Iterator
from typing import Final

from deeplab_spec.judge.finding import Decision, Finding
from deeplab_spec.judge.training.evidence import Initial, Sample, Trained
from deeplab_spec.spec.choices import ChoiceValue, Initialisation
from deeplab_spec.spec.distributions import Distribution, Shape

RATE: Final = 1e-6
"""The probability of rejecting correctly drawn weights, over all tensors and tests at an output stride."""

TESTS: Final = 4
"""The number of two-sided tests of every sample."""

ROUNDING: Final = 1e-6
"""Relative error of values drawn in float32."""

_ALMOST_ONE: Final = 1 - 2**-53

SPECIFIED: Final = "specified"
"""Name of the expected distribution; the others have the names of values of the choice ``init``."""


def initialisation(trained: Trained) -> Decision:
    """Decide INITIALISATION."""
    initial = trained.initial
    if initial is None:
        return Decision(undecided=trained.reason or "its initial weights were not kept")
    if initial.not_applicable:
        return Decision(not_applicable=initial.not_applicable)
    chance = RATE / (2 * TESTS * max(len(initial.samples), 1))
    refused = [sample for sample in initial.samples if _refused(sample, SPECIFIED, chance)]
    single = [sample for sample in refused if sample.tensors == 1]
    likely = init_choice(initial).get("init")
    findings = tuple(_finding(sample, chance, str(likely)) for sample in single or refused)
    return Decision(findings=findings, decisions=len(initial.samples))


def _finding(sample: Sample, chance: float, likely: str) -> Finding:
    """Return the finding that values were drawn in another way; the hint names a value of ``init`` that fits."""
    expected = next(distribution for name, distribution, _ in sample.fits if name == SPECIFIED)
    several = f" of {sample.tensors} convolutions together" if sample.tensors > 1 else ""
    others = [name for name, _, _ in sample.fits if name != SPECIFIED and not _refused(sample, name, chance)]
    like = likely if likely in others else next(iter(others), "")
    return Finding(
        path=sample.path,
        candidate_path=sample.candidate_path,
        attribute=f"initial {sample.role.replace('_', ' ')}{several}",
        expected=str(expected),
        actual=_described(sample, expected, chance),
        choice="init" if len(sample.fits) > 1 else None,
        hint=f"as init={like}" if like else "",
        output_stride=0,
    )


def _described(sample: Sample, expected: Distribution, chance: float) -> str:
    """Describe the values of a wrong sample."""
    mean, deviation = sample.mean, math.sqrt(max(sample.square - sample.mean**2, 0.0))
    if expected.shape is Shape.CONSTANT:
        return f"{mean:.3g}" if deviation < ROUNDING else f"mean {mean:.3g}, deviation {deviation:.3g}"
    if set(_wrong(sample, SPECIFIED, chance)) <= {"shape", "greatest"}:
        return f"another shape: deviation {deviation:.3g}, magnitudes up to {sample.greatest:.3g}"
    return f"deviation {deviation:.3g}" + f", mean {mean:.3g}" * (abs(mean) > deviation / 2)


def _refused(sample: Sample, name: str, chance: float) -> bool:
    return any(_wrong(sample, name, chance))


def _wrong(sample: Sample, name: str, chance: float) -> Iterator[str]:
    """Return the tests of a distribution that values fail."""
    distribution, apart = next((entry[1], entry[2]) for entry in sample.fits if entry[0] == name)
    if distribution.shape is Shape.CONSTANT:
        if not apart <= ROUNDING * abs(distribution.scale):
            yield "value"
        return
    log_chance = -math.log(chance)
    if not abs(sample.mean) <= _mean_off(distribution, sample.count, log_chance):
        yield "mean"
    least, most = _squares(distribution, sample.count, log_chance)
    if not least <= sample.square <= most:
        yield "square"
    if not apart <= math.sqrt((log_chance + math.log(2)) / (2 * sample.tested)):
        yield "shape"
    if not _greatest_is_likely(distribution, sample, chance):
        yield "greatest"


def _mean_off(distribution: Distribution, count: int, log_chance: float) -> float:
    """Return the largest distance of the mean of values from zero."""
    if distribution.shape is Shape.NORMAL:
        return math.sqrt(2 * distribution.variance * log_chance / count)
    return _bernstein(distribution.variance, distribution.bound, count, log_chance)


def _squares(distribution: Distribution, count: int, log_chance: float) -> tuple[float, float]:
    """Return the smallest and the largest allowed mean square of values."""
    variance, part = distribution.variance, log_chance / count
    if distribution.shape is Shape.NORMAL:
        return variance * (1 - 2 * math.sqrt(part)), variance * (1 + 2 * math.sqrt(part) + 2 * part)
    bound = max(distribution.bound**2 - variance, variance)
    off = _bernstein(distribution.fourth_moment - variance**2, bound, count, log_chance)
    return variance - off, variance + off


def _bernstein(variance: float, bound: float, count: int, log_chance: float) -> float:
    """Return the largest distance of the mean of bounded values from its expectation."""
    linear = bound * log_chance / (3 * count)
    return linear + math.sqrt(linear**2 + 2 * variance * log_chance / count)


def _greatest_is_likely(distribution: Distribution, sample: Sample, chance: float) -> bool:
    """Tell whether the largest magnitude is plausible for this number of values."""
    larger = sample.count * distribution.beyond(sample.greatest * (1 - ROUNDING))
    none_larger = sample.count * math.log1p(-min(distribution.beyond(sample.greatest * (1 + ROUNDING)), _ALMOST_ONE))
    return larger >= chance and none_larger >= math.log(chance)


def init_choice(initial: Initial) -> dict[str, ChoiceValue]:
    """Return the value of ``init`` that explains all initial weights, if one does."""
    if initial.not_applicable or not initial.samples:
        return {}
    chance = RATE / (2 * TESTS * len(initial.samples))
    drawn = [sample for sample in initial.samples if sample.tensors == 1]
    for value in Initialisation:
        named = [sample for sample in drawn if any(name == value for name, _, _ in sample.fits)]
        if named and not any(_refused(sample, value, chance) for sample in named):
            return {"init": value}
    return {}

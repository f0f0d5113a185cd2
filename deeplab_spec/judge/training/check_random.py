"""Decides INITIALISATION and DROPOUT: whether random weights and results are distributed as specified.

Initial weights: every test bounds the probability of rejecting correctly drawn values, for any number of values: with
Chernoff's bound for squares of normal values, Bernstein's for bounded values, and the inequality of Dvoretzky, Kiefer
and Wolfowitz for the distribution function; ``joint_tests`` states the bounds of the joint tests. The probabilities of
all tests at an output stride add up to at most :data:`RATE`. The joint tests decide only about tensors whose single
values are distributed as specified.

Dropout: calls of the framework's dropout are recorded, with their position and rate. Dropout that is written by hand is
not recorded, but the results show it: over several seeds they must vary as the oracle's do.
"""

import math
import re
from collections.abc import Container, Iterator, Mapping
from statistics import fmean
from typing import Final

from deeplab_spec.align.differences import ABSENT
from deeplab_spec.judge.finding import Decision, Finding, Json
from deeplab_spec.judge.training.evidence import DropoutEffect, Initial, JointTest, Sample, Site, Trained
from deeplab_spec.spec.choices import ChoiceValue, Initialisation
from deeplab_spec.spec.distributions import Distribution, Shape

RATE: Final = 1e-9
"""The probability of rejecting correctly drawn weights, over all tensors and tests at an output stride."""

TESTS: Final = 4
"""The number of two-sided tests of every sample."""

ROUNDING: Final = 1e-6
"""Relative error of values drawn in float32."""

_ALMOST_ONE: Final = 1 - 2**-53

SPECIFIED: Final = "specified"
"""Name of the expected distribution; the others have the names of values of the choice ``init``."""


def finding(
    path: str, candidate_path: str | None, attribute: str, expected: Json, actual: Json, *, choice: str | None = None
) -> Finding:
    """Return a finding of training; its output stride is filled in later."""
    return Finding(
        path=path,
        candidate_path=candidate_path,
        attribute=attribute,
        choice=choice,
        expected=expected,
        actual=actual,
        output_stride=0,
    )


def initialisation(trained: Trained) -> Decision:
    """Decide INITIALISATION."""
    initial = trained.initial
    if initial is None:
        return Decision(undecided="its initial weights were not kept")
    if initial.not_applicable or initial.undecided:
        return Decision(not_applicable=initial.not_applicable, undecided=initial.undecided)
    chance = chance_of_each(initial)
    refused = [sample for sample in initial.samples if _refused(sample, SPECIFIED, chance)]
    single = [sample for sample in refused if sample.tensors == 1]
    likely = init_choice(initial)
    chosen = {name: str(value) for name, value in likely.items()}
    findings = (
        *(_initial_finding(sample, chance, initial.choice(sample.path), chosen) for sample in single or refused),
        *_dependent(initial, {sample.candidate_path for sample in single}, math.log(chance)),
    )
    return Decision(findings=findings, decisions=len(initial.samples))


def chance_of_each(initial: Initial) -> float:
    """Return the largest probability at which each test rejects correct values, so that all add up to the rate."""
    return RATE / max(2 * TESTS * len(initial.samples) + len(initial.joint), 1)


def _dependent(initial: Initial, known: Container[str | None], log_chance: float) -> Iterator[Finding]:
    """Find tensors, other than those that are found already, whose values are not independent of others."""
    fixed = [sample for sample in initial.samples if sample.fixed and sample.candidate_path not in known]
    yield from (_dependence(sample, "the same values in two builds") for sample in fixed)
    same = {sample.candidate_path for sample in fixed}
    likely: dict[str, JointTest] = {}
    for test in initial.joint:
        if not test.log_chance >= log_chance and test.candidate_path not in same and test.candidate_path not in known:
            other = likely.setdefault(test.candidate_path, test)
            likely[test.candidate_path] = min(other, test, key=lambda test: test.log_chance)
    yield from (_dependence(test, test.actual) for test in likely.values())


def _dependence(tested: Sample | JointTest, actual: str) -> Finding:
    return finding(tested.path, tested.candidate_path, f"initial {tested.role}", "independent values", actual)


def _initial_finding(sample: Sample, chance: float, choice: str, likely: Mapping[str, str]) -> Finding:
    """Return the finding that values were drawn in another way; the hint names a value of the choice that fits."""
    expected, _ = sample.fits[SPECIFIED]
    several = f" of {sample.tensors} convolutions together" if sample.tensors > 1 else ""
    others = [name for name in sample.fits if name != SPECIFIED and not _refused(sample, name, chance)]
    like = likely[choice] if likely.get(choice) in others else next(iter(others), "")
    found = finding(
        sample.path,
        sample.candidate_path,
        f"initial {sample.role.replace('_', ' ')}{several}",
        str(expected),
        _described(sample, expected, chance),
        choice=choice if len(sample.fits) > 1 else None,
    )
    return found.model_copy(update={"hint": f"as {choice}={like}"}) if like else found


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
    distribution, apart = sample.fits[name]
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
    """Return the values of ``init`` and ``backbone_init`` that explain initial weights that are not as specified."""
    if initial.not_applicable or not initial.samples:
        return {}
    chance = chance_of_each(initial)
    found: dict[str, ChoiceValue] = {}
    for choice in dict.fromkeys(("init", initial.of_backbone)):
        drawn = [each for each in initial.samples if each.tensors == 1 and initial.choice(each.path) == choice]
        if not any(_refused(sample, SPECIFIED, chance) for sample in drawn):
            continue
        for value in Initialisation:
            named = [sample for sample in drawn if value in sample.fits]
            if named and not any(_refused(sample, value, chance) for sample in named):
                found.setdefault(choice, value)
    return found


LIMIT: Final = 6.0
"""Standard errors by which two means of logarithms may differ. With 10 and 40 calls, Student's distribution has 48
degrees of freedom: one correct dropout in 4 million exceeds the limit, and one in 1.3 million over three statistics."""

SILENT: Final = 1e-8
"""Largest energy of a difference, over that of the results, that is rounding in float32."""

_CHOICES: Final = {"aspp_dropout": r"aspp\.(dropout|projection|refinement)", "decoder_dropout": r"decoder\.conv(\d+)"}
"""Patterns of the nodes whose values are dropped, by choice."""


def dropout(trained: Trained) -> Decision:
    """Decide DROPOUT."""
    effect = trained.dropout_effect
    if effect is None:
        return Decision(undecided=trained.error or trained.incomparable)
    if not effect.stated:
        return Decision(not_applicable="the other network does not state its dropout")
    from_calls = tuple(_from_calls(effect))
    if effect.reason and not _calls_suffice(effect, repeatable=trained.repeatable):
        return Decision(findings=from_calls, decisions=len(from_calls), undecided=effect.reason)
    decisions = len(effect.expected) + len(effect.candidate.get("spread", ()))
    findings = from_calls or ((_from_results(effect),) if _differs(effect) else ())
    return Decision(findings=findings, decisions=decisions)


def _calls_suffice(effect: DropoutEffect, *, repeatable: bool) -> bool:
    """Tell whether recorded calls decide, though results cannot be compared with the oracle's.

    They do if every call is at a known node and shows in the results, and nothing else makes these vary.
    """
    spread = effect.candidate.get("spread", ())
    located = all(call.reads is not None for call in effect.actual)
    seen = bool(spread) and all(map(math.isfinite, spread)) and (not effect.actual or min(spread) > SILENT)
    return repeatable and located and seen


def _differs(effect: DropoutEffect) -> bool:
    """Tell whether the results vary in another way than the oracle's, if they can be compared."""
    silent = all(value <= SILENT for value in effect.candidate.get("spread", ()))
    if silent or not effect.expected:
        return silent == bool(effect.expected)
    compared = () if effect.reason else effect.oracle
    return any(_apart(effect.candidate[name], effect.oracle[name]) for name in compared)


def _apart(mine: tuple[float, ...], theirs: tuple[float, ...]) -> bool:
    """Tell whether two samples have different means of their logarithms, given equal deviations."""
    if min(mine) <= 0 or not all(map(math.isfinite, mine)):
        return True
    left, right = ([math.log(value) for value in values] for values in (mine, theirs))
    squares = sum((value - fmean(values)) ** 2 for values in (left, right) for value in values)
    deviation = math.sqrt(squares / (len(left) + len(right) - 2))
    error = deviation * math.sqrt(1 / len(left) + 1 / len(right))
    return abs(fmean(left) - fmean(right)) > LIMIT * error


def _from_results(effect: DropoutEffect) -> Finding:
    """Return the finding that the results vary in another way; with a single dropout, estimate its rate."""
    if not effect.expected:
        return _dropout_finding("output", None, "dropout", ABSENT, "results that differ from call to call")
    site = effect.expected[0]
    spread = effect.candidate["spread"]
    if max(spread) <= SILENT:
        return _dropout_finding(site.path, None, "node", _worded(site), ABSENT)
    if len(effect.expected) > 1:
        varying = ("results that vary as specified", "they vary in another way")
        return _dropout_finding(site.path, None, "dropout", *varying)
    odds = site.probability / (1 - site.probability) * fmean(spread) / fmean(effect.oracle["spread"])
    seen = f"about {odds / (1 + odds):.2g}"
    return _dropout_finding(site.path, None, "rate that the results show", site.probability, seen)


def _from_calls(effect: DropoutEffect) -> Iterator[Finding]:
    """Find dropouts at another node, of another kind or at another rate."""
    missing, extra = list(effect.expected), []
    for call in effect.actual:
        site = next((site for site in missing if site.reads == call.reads is not None), None)
        if site is None:
            extra.append(call)
        else:
            missing.remove(site)
            yield from _otherwise(site, call)
    if len(missing) == len(extra) and all(call.reads is None for call in extra):
        for site, call in zip(missing, extra, strict=True):
            yield from _otherwise(site, call)
        return
    if effect.actual:
        yield from (_dropout_finding(site.path, None, "node", _worded(site), ABSENT) for site in missing)
    yield from (_dropout_finding(call.follows or "output", call.path, "node", ABSENT, _worded(call)) for call in extra)


def _otherwise(site: Site, call: Site) -> Iterator[Finding]:
    if call.kind != site.kind:
        yield _dropout_finding(site.path, call.path, "kind", site.kind, call.kind)
    if call.probability != site.probability:
        yield _dropout_finding(site.path, call.path, "probability", site.probability, call.probability)


def _worded(site: Site) -> str:
    return f"{site.kind} at rate {site.probability}"


def _dropout_finding(path: str, candidate_path: str | None, attribute: str, expected: Json, actual: Json) -> Finding:
    choice = next((name for name, pattern in _CHOICES.items() if re.match(pattern, path)), None)
    return finding(path, candidate_path, attribute, expected, actual, choice=None if attribute == "kind" else choice)


def dropout_choices(effect: DropoutEffect) -> dict[str, ChoiceValue]:
    """Return the rates of the candidate's dropout calls, by choice."""
    rates: dict[str, dict[int, float]] = {name: {} for name in _CHOICES}
    unlocated = [call for call in effect.actual if call.reads is None]
    places = [call.reads or "" for call in effect.actual]
    if len(unlocated) == len(effect.actual) == len(effect.expected):
        places = [site.reads or "" for site in effect.expected]
    for place, call in zip(places, effect.actual, strict=True):
        for name, pattern in _CHOICES.items():
            if found := re.match(pattern, place):
                number = int(found[1]) if name == "decoder_dropout" else 0
                rates[name][number] = call.probability
    convs = rates["decoder_dropout"]
    after = tuple(convs.get(number, 0.0) for number in range(1, max(convs, default=0) + 1))
    return {"aspp_dropout": rates["aspp_dropout"].get(0, 0.0), "decoder_dropout": after}

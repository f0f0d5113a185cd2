"""Measures the gate's own error rates: records pairs with and without planted slowdowns, then resamples them.

*Recorded* are pairs of fresh processes; each is an independent observation. *Resampled* are trials: a
trial draws recordings with replacement and follows the rule. If its first set of pairs says FAIL, it draws
a second set that must confirm it, and the pairs of both count in the time to the verdict.

More trials make the resampling exact, but they do not add recordings. So a bootstrap repeats everything on
recordings that are themselves drawn anew. Trials of consecutive recordings, each used once, keep what
resampling loses: neighbours in time may be alike.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import expm1, log1p, sqrt
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Final

from deeplab_spec.errors import SpecError, TargetError, require_torch
from deeplab_spec.gate.cases import device_of, machine
from deeplab_spec.gate.document import (
    CalibrationDocument,
    CurvePointModel,
    GateCaseModel,
    GateVerdict,
    OutcomeModel,
    RateModel,
    RuleModel,
)
from deeplab_spec.gate.pairs import Pair, default_ahead
from deeplab_spec.gate.recordings import PROTOCOL, SAME, Condition, Recorder, conditions
from deeplab_spec.gate.request import GateRequest
from deeplab_spec.gate.rule import Rule, follow
from deeplab_spec.gate.service import CONFIRMING_ALPHA, concluded, confirming
from deeplab_spec.gate.sides import opened
from deeplab_spec.views.progress import Progress

TRIALS: Final = 2000
_OUTER: Final = 200
_INNER: Final = 200
_CURVE_STEPS: Final = 40
_CURVE_TRIALS: Final = 500
_NORMAL_95: Final = 1.959964

Draw = Callable[[int], Sequence[float]]
"""Returns the log-ratios of as many pairs as it is called with."""


def calibrate(
    folder: Path, request: GateRequest, recordings: int, seed: int, progress: Progress
) -> tuple[str, CalibrationDocument]:
    """Record the pairs that the folder does not have yet, and resample all of them.

    ``recordings`` counts those of all conditions.

    Returns:
        The name of the device as part of a file name, and the document.

    Raises:
        MissingExtraError: If torch is not installed.
        SpecError: If there are several cases or no recordings, or the folder holds recordings of something else.
        TargetError: If a pair cannot be measured, or a condition has too few recordings.
    """
    require_torch("gate")
    if len(request.cases) != 1:
        raise SpecError("--calibrate", "needs one case", [case.name for case in request.cases])
    if recordings < 1:
        raise SpecError("--recordings", "must be 1 or more", recordings)
    case, rule, device = request.cases[0], request.settings.rule, device_of(request.cases[0])
    with opened(request.base, request.target, request.arguments) as side:
        side.require_variant(request.cases)
        recorder = Recorder(
            case=case,
            side=side,
            rule=rule,
            device=device,
            timeout=request.settings.timeout,
            ahead=request.settings.ahead or default_ahead(case),
        )
        recorded = recorder.record(folder / f"{device.file}.recordings.jsonl", recordings, progress)
    chance = random.Random(seed)  # noqa: S311 - resampling needs no secrecy
    outcomes = []
    for condition in conditions(case, rule):
        progress(f"resampling {condition.name}", recordings, recordings)
        pairs = [pair for name, pair in recorded if name == condition.name]
        outcomes.append(outcome(condition, pairs, rule, chance))
    same = [pair.log_ratio for name, pair in recorded if name == SAME and not pair.disturbed]
    return device.file, CalibrationDocument(
        device=device.name,
        torch=recorded[0][1].torch,
        case=GateCaseModel.model_validate(case, from_attributes=True),
        target=side.name,
        built=recorded[0][1].built[0],
        protocol=PROTOCOL,
        rule=RuleModel.model_validate(rule, from_attributes=True),
        confirming_alpha=CONFIRMING_ALPHA,
        seed=seed,
        outcomes=tuple(outcomes),
        curve=_curve(same, rule, chance),
        pair_seconds=median(pair.seconds for _, pair in recorded),
        machine=machine(),
    )


def outcome(condition: Condition, pairs: Sequence[Pair], rule: Rule, chance: random.Random) -> OutcomeModel:
    """Return the verdicts under a condition.

    Raises:
        TargetError: If fewer than two recordings count.
    """
    kept = [pair for pair in pairs if not pair.disturbed]
    if len(kept) < 2:  # noqa: PLR2004 - a standard deviation needs two
        raise TargetError(condition.name, f"{len(kept)} recordings are too few; record more with --recordings")
    ratios = [pair.log_ratio for pair in kept]
    usual = median(pair.seconds for pair in kept)
    trials = [_resampled(ratios, rule, chance) for _ in range(TRIALS)]
    lengths = sorted(trial.pairs for trial in trials)
    rates = sorted(_share_failing(chance.choices(ratios, k=len(ratios)), rule, chance, _INNER) for _ in range(_OUTER))
    return OutcomeModel(
        name=condition.name,
        slowdown=condition.slowdown,
        recorded=len(kept),
        dropped=len(pairs) - len(kept),
        measured=expm1(fmean(ratios)),
        spread=stdev(ratios),
        consecutive=rate(_consecutive(ratios, rule)),
        resampled=rate([trial.verdict for trial in trials]),
        first_set=rate([trial.first for trial in trials]),
        recordings_low=rates[round(0.025 * _OUTER)],
        recordings_high=rates[round(0.975 * _OUTER) - 1],
        pairs=sum(lengths) / len(lengths),
        seconds=usual * median(lengths),
        slow_seconds=usual * lengths[round(0.95 * TRIALS) - 1],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What the gate does with simulated pairs: its verdict, that on the first set, and the pairs of both sets."""

    verdict: GateVerdict
    first: GateVerdict
    pairs: int


def simulate(rule: Rule, draw: Draw) -> Trial:
    """Return what the gate does with the pairs that ``draw`` returns."""
    first = follow(rule, draw)
    second = follow(confirming(rule), draw) if first.verdict is GateVerdict.FAIL else None
    decisions = [first, second] if second else [first]
    return Trial(
        verdict=concluded(first, second).verdict,
        first=first.verdict,
        pairs=sum(decision.estimate.pairs for decision in decisions if decision.estimate),
    )


def _resampled(ratios: Sequence[float], rule: Rule, chance: random.Random) -> Trial:
    return simulate(rule, lambda count: chance.choices(ratios, k=count))


def _consecutive(ratios: Sequence[float], rule: Rule) -> list[GateVerdict]:
    """Return the verdicts of trials that use up the recordings one after the other; an incomplete trial is left out."""
    left, verdicts = iter(ratios), []
    with suppress(StopIteration):
        while True:
            verdicts.append(simulate(rule, lambda count: [next(left) for _ in range(count)]).verdict)
    return verdicts


def _curve(same: Sequence[float], rule: Rule, chance: random.Random) -> tuple[CurvePointModel, ...]:
    points = []
    for step in range(_CURVE_STEPS + 1):
        slowdown = 2 * rule.margin * step / _CURVE_STEPS
        shifted = [ratio + log1p(slowdown) for ratio in same]
        points.append(CurvePointModel(slowdown=slowdown, rate=_share_failing(shifted, rule, chance, _CURVE_TRIALS)))
    return tuple(points)


def _share_failing(ratios: Sequence[float], rule: Rule, chance: random.Random, trials: int) -> float:
    verdicts = [_resampled(ratios, rule, chance).verdict for _ in range(trials)]
    return verdicts.count(GateVerdict.FAIL) / trials


def rate(verdicts: Sequence[GateVerdict]) -> RateModel:
    """Return how often the verdicts are FAIL, with the Wilson interval."""
    trials, failed = len(verdicts), verdicts.count(GateVerdict.FAIL)
    low, high = wilson(failed, trials)
    return RateModel(
        trials=trials,
        failed=failed,
        passed=verdicts.count(GateVerdict.PASS),
        low=low,
        high=high,
        rate=failed / trials if trials else 0.0,
    )


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share; 0 to 1 if there are no trials.

    >>> [round(end, 4) for end in wilson(0, 300)]
    [0.0, 0.0126]
    """
    if not trials:
        return 0.0, 1.0
    square = _NORMAL_95**2
    share = successes / trials
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    half = _NORMAL_95 / (1 + square / trials) * sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)

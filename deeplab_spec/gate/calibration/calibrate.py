"""The gate's own error rates: pairs are recorded with and without planted slowdowns, then resampled.

Two things are kept apart. *Recorded* are pairs of fresh processes, each an independent observation.
*Resampled* are trials: a trial draws as many recordings, with replacement, as the rule may look at, and
follows the rule. More trials make the resampling exact, they do not make more recordings: the interval
over recordings repeats everything on recordings that are themselves drawn anew. Trials of consecutive
recordings, none used twice, keep what resampling loses: that neighbours in time may be alike.

A trial does what the gate does: where the first set of pairs says FAIL, a second set is drawn to confirm it,
and its pairs count in the time to the verdict.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import expm1, log1p
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Final

from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.gate.calibration.conditions import SAME, Condition, conditions
from deeplab_spec.gate.calibration.rates import Rate, rate
from deeplab_spec.gate.calibration.recordings import PROTOCOL, Recorder
from deeplab_spec.gate.cases import Case
from deeplab_spec.gate.confirm import CONFIRMING_ALPHA, Course, concluded, confirming, course, pairs_of
from deeplab_spec.gate.pairs import Pair
from deeplab_spec.gate.rule import GateVerdict, Rule, follow
from deeplab_spec.views.progress import Progress

TRIALS: Final = 2000
_OUTER: Final = 200
_INNER: Final = 200
_CURVE_STEPS: Final = 40
_CURVE_TRIALS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the gate does under one condition.

    Attributes:
        name: The condition.
        slowdown: The planted slowdown; None where only the recordings can say how large it is.
        recorded: Independent recordings that count.
        dropped: Recordings that were dropped because a clock differed or moved.
        measured: Relative slowdown of the recordings, their geometric mean.
        spread: Standard deviation of the recordings' log-ratios.
        consecutive: Trials of consecutive recordings, none used twice.
        resampled: Trials of recordings drawn with replacement.
        first_set: What the first sets of those trials say, before a second one confirms a FAIL.
        recordings_low: 2.5 % quantile of the rate of FAIL over recordings drawn anew.
        recordings_high: 97.5 % quantile.
        pairs: Mean number of pairs until the verdict, with those that confirm it.
        seconds: Median time until the verdict.
        slow_seconds: 95 % quantile of that time.
    """

    name: str
    slowdown: float | None
    recorded: int
    dropped: int
    measured: float
    spread: float
    consecutive: Rate
    resampled: Rate
    first_set: Rate
    recordings_low: float
    recordings_high: float
    pairs: float
    seconds: float
    slow_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Detection of a slowdown that is added to the A/A recordings by arithmetic, resampled."""

    slowdown: float
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The error rates of the gate on one device."""

    device: str
    torch: str
    case: Case
    target: str
    built: str
    protocol: int
    rule: Rule
    confirming_alpha: float
    seed: int
    outcomes: tuple[Outcome, ...]
    curve: tuple[CurvePoint, ...]
    pair_seconds: float


def calibrate(folder: Path, recorder: Recorder, recordings: int, seed: int, progress: Progress) -> Calibration:
    """Record what is missing, and resample.

    Args:
        folder: Where the recordings are kept.
        recorder: What is recorded.
        recordings: How many pairs are recorded, over all conditions.
        seed: Of the resampling.
        progress: Told what is done.

    Raises:
        TargetError: If a pair cannot be measured, or a condition has no recording left.
        SpecError: If the folder holds recordings of something else.
    """
    if recordings < 1:
        raise SpecError("--recordings", "must be 1 or more", recordings)
    case, rule = recorder.case, recorder.rule
    found = recorder.record(folder / f"{recorder.device.file}.recordings.jsonl", recordings, progress)
    chance = random.Random(seed)  # noqa: S311 - resampling is no secret
    outcomes = []
    for condition in conditions(case, rule):
        progress(f"resampling {condition.name}", recordings, recordings)
        outcomes.append(outcome(condition, [pair for name, pair in found if name == condition.name], rule, chance))
    same = [pair.log_ratio for name, pair in found if name == SAME and not pair.disturbed]
    return Calibration(
        device=recorder.device.name,
        torch=found[0][1].torch,
        case=case,
        target=recorder.side.name,
        built=found[0][1].built[0],
        protocol=PROTOCOL,
        rule=rule,
        confirming_alpha=CONFIRMING_ALPHA,
        seed=seed,
        outcomes=tuple(outcomes),
        curve=_curve(same, rule, chance),
        pair_seconds=median(pair.seconds for _, pair in found),
    )


def outcome(condition: Condition, pairs: Sequence[Pair], rule: Rule, chance: random.Random) -> Outcome:
    """Return what the gate does under a condition.

    Raises:
        TargetError: If fewer than two recordings are left.
    """
    kept = [pair for pair in pairs if not pair.disturbed]
    if len(kept) < 2:  # noqa: PLR2004 - a spread needs two
        raise TargetError(condition.name, f"{len(kept)} recordings are too few; record more with --recordings")
    ratios = [pair.log_ratio for pair in kept]
    usual = median(pair.seconds for pair in kept)
    trials = [_trial(ratios, rule, chance) for _ in range(TRIALS)]
    lengths = sorted(trial.pairs for trial in trials)
    over = sorted(_share_failing(chance.choices(ratios, k=len(ratios)), rule, chance, _INNER) for _ in range(_OUTER))
    return Outcome(
        name=condition.name,
        slowdown=condition.slowdown,
        recorded=len(kept),
        dropped=len(pairs) - len(kept),
        measured=expm1(fmean(ratios)),
        spread=stdev(ratios),
        consecutive=rate(list(_consecutive(ratios, rule))),
        resampled=rate([trial.verdict for trial in trials]),
        first_set=rate([trial.first for trial in trials]),
        recordings_low=over[round(0.025 * _OUTER)],
        recordings_high=over[round(0.975 * _OUTER) - 1],
        pairs=sum(lengths) / len(lengths),
        seconds=usual * median(lengths),
        slow_seconds=usual * lengths[round(0.95 * TRIALS) - 1],
    )


def _trial(ratios: Sequence[float], rule: Rule, chance: random.Random) -> Course:
    return course(rule, lambda count: chance.choices(ratios, k=count))


def _consecutive(ratios: Sequence[float], rule: Rule) -> Iterator[GateVerdict]:
    """Return the verdicts of trials that follow each other through the recordings, while these last."""
    at = 0
    while True:
        first = follow(rule, ratios[at : at + rule.max_pairs])
        at += pairs_of(first)
        second = None
        if first.verdict is GateVerdict.FAIL:
            second = follow(confirming(rule), ratios[at : at + rule.max_pairs])
            at += pairs_of(second)
        last = second or first
        if last.verdict is GateVerdict.INCONCLUSIVE and pairs_of(last) < rule.max_pairs:
            return  # the recordings ended first
        yield concluded(first, second).verdict


def _curve(same: Sequence[float], rule: Rule, chance: random.Random) -> tuple[CurvePoint, ...]:
    points = []
    for step in range(_CURVE_STEPS + 1):
        slowdown = 2 * rule.margin * step / _CURVE_STEPS
        shifted = [ratio + log1p(slowdown) for ratio in same]
        points.append(CurvePoint(slowdown=slowdown, rate=_share_failing(shifted, rule, chance, _CURVE_TRIALS)))
    return tuple(points)


def _share_failing(ratios: Sequence[float], rule: Rule, chance: random.Random, trials: int) -> float:
    verdicts = [_trial(ratios, rule, chance).verdict for _ in range(trials)]
    return verdicts.count(GateVerdict.FAIL) / trials

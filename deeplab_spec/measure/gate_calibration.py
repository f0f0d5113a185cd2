"""The gate's own error rates: pairs are recorded with and without planted slowdowns, then resampled.

Two things are kept apart. *Recorded* are pairs of fresh processes, each an independent observation.
*Resampled* are trials: a trial draws as many recordings, with replacement, as the rule may look at, and
follows the rule. More trials make the resampling exact, they do not make more recordings: the interval
over recordings repeats everything on recordings that are themselves drawn anew. Trials of consecutive
recordings, none used twice, keep what resampling loses: that neighbours in time may be alike.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import expm1, log1p, sqrt
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Final

from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.measure.gate_cases import Case
from deeplab_spec.measure.gate_pairs import Pair
from deeplab_spec.measure.gate_recordings import SAME, Condition, conditions, device_name, record
from deeplab_spec.measure.gate_rule import GateVerdict, Rule, follow
from deeplab_spec.measure.gate_run import WITNESS_FACTOR, Progress
from deeplab_spec.measure.gate_sides import Side

TRIALS: Final = 2000
_OUTER: Final = 200
_INNER: Final = 100
_NORMAL_95: Final = 1.959964
_CURVE_STEPS: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often trials end in FAIL, and in the other verdicts.

    Attributes:
        trials: How many were made.
        failed: How many ended in FAIL.
        passed: How many ended in PASS.
        low: Lower end of the 95 % Wilson interval of FAIL: what this number of trials leaves open.
        high: Its upper end.
    """

    trials: int
    failed: int
    passed: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """The share of trials that end in FAIL."""
        return self.failed / self.trials if self.trials else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the gate does under one condition.

    Attributes:
        name: The condition.
        slowdown: The planted slowdown; None where only the recordings can say how large it is.
        recorded: Independent recordings that count.
        dropped: Recordings that were dropped because the clocks differed.
        measured: Relative slowdown of the recordings, their geometric mean.
        spread: Standard deviation of the recordings' log-ratios.
        consecutive: Trials of consecutive recordings, none used twice.
        resampled: Trials of recordings drawn with replacement.
        recordings_low: 2.5 % quantile of the rate of FAIL over recordings drawn anew.
        recordings_high: 97.5 % quantile.
        pairs: Mean number of pairs until the verdict.
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
    rule: Rule
    seed: int
    outcomes: tuple[Outcome, ...]
    curve: tuple[CurvePoint, ...]
    pair_seconds: float


def calibrate(
    folder: Path, case: Case, side: Side, rule: Rule, recordings: int, timeout: float, seed: int, progress: Progress
) -> Calibration:
    """Record what is missing, and resample.

    Args:
        folder: Where the recordings are kept.
        case: What is timed.
        side: The target, on both sides.
        rule: The rule whose errors are wanted.
        recordings: How many pairs are recorded, over all conditions.
        timeout: Seconds that a process may take for any answer.
        seed: Of the resampling.
        progress: Told what is done.

    Raises:
        TargetError: If a pair cannot be measured, or a condition has no recording left.
        SpecError: If the folder holds recordings of something else.
    """
    if recordings < 1:
        raise SpecError("--recordings", "must be 1 or more", recordings)
    file = folder / f"{device_name(case)}.recordings.jsonl"
    found = record(file, case, side, rule, recordings, timeout, progress)
    chance = random.Random(seed)  # noqa: S311 - resampling is no secret
    outcomes = []
    for condition in conditions(case, rule):
        progress(f"resampling {condition.name}", recordings, recordings)
        outcomes.append(outcome(condition, [pair for name, pair in found if name == condition.name], rule, chance))
    same = [pair.log_ratio for name, pair in found if name == SAME and not pair.clocks_differ(WITNESS_FACTOR)]
    return Calibration(
        device=found[0][1].device,
        torch=found[0][1].torch,
        case=case,
        rule=rule,
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
    kept = [pair for pair in pairs if not pair.clocks_differ(WITNESS_FACTOR)]
    if len(kept) < 2:  # noqa: PLR2004 - a spread needs two
        raise TargetError(condition.name, f"{len(kept)} recordings are too few; record more with --recordings")
    ratios = [pair.log_ratio for pair in kept]
    usual = median(pair.seconds for pair in kept)
    trials = [follow(rule, chance.choices(ratios, k=rule.max_pairs)) for _ in range(TRIALS)]
    lengths = sorted(trial.estimate.pairs if trial.estimate else 0 for trial in trials)
    over = sorted(_rate_of_drawn(ratios, rule, chance) for _ in range(_OUTER))
    return Outcome(
        name=condition.name,
        slowdown=condition.slowdown,
        recorded=len(kept),
        dropped=len(pairs) - len(kept),
        measured=expm1(fmean(ratios)),
        spread=stdev(ratios),
        consecutive=rate(list(_consecutive(ratios, rule))),
        resampled=rate([trial.verdict for trial in trials]),
        recordings_low=over[round(0.025 * _OUTER)],
        recordings_high=over[round(0.975 * _OUTER) - 1],
        pairs=sum(lengths) / len(lengths),
        seconds=usual * median(lengths),
        slow_seconds=usual * lengths[round(0.95 * TRIALS) - 1],
    )


def _rate_of_drawn(ratios: Sequence[float], rule: Rule, chance: random.Random) -> float:
    drawn = chance.choices(ratios, k=len(ratios))
    verdicts = [follow(rule, chance.choices(drawn, k=rule.max_pairs)).verdict for _ in range(_INNER)]
    return verdicts.count(GateVerdict.FAIL) / _INNER


def _consecutive(ratios: Sequence[float], rule: Rule) -> Iterator[GateVerdict]:
    """Return the verdicts of trials that follow each other through the recordings, while these last."""
    at = 0
    while True:
        decision = follow(rule, ratios[at : at + rule.max_pairs])
        used = decision.estimate.pairs if decision.estimate else 0
        if decision.verdict is GateVerdict.INCONCLUSIVE and used < rule.max_pairs:
            return  # the recordings ended first
        at += used
        yield decision.verdict


def rate(verdicts: Sequence[GateVerdict]) -> Rate:
    """Return how often the verdicts are FAIL, with the Wilson interval."""
    trials, failed = len(verdicts), verdicts.count(GateVerdict.FAIL)
    low, high = wilson(failed, trials)
    return Rate(trials=trials, failed=failed, passed=verdicts.count(GateVerdict.PASS), low=low, high=high)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share; of no trials, nothing is known.

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


def _curve(same: Sequence[float], rule: Rule, chance: random.Random) -> tuple[CurvePoint, ...]:
    points = []
    for step in range(_CURVE_STEPS + 1):
        slowdown = 2 * rule.margin * step / _CURVE_STEPS
        shifted = [ratio + log1p(slowdown) for ratio in same]
        points.append(CurvePoint(slowdown=slowdown, rate=_share_failing(shifted, rule, chance)))
    return tuple(points)


def _share_failing(ratios: Sequence[float], rule: Rule, chance: random.Random) -> float:
    verdicts = [follow(rule, chance.choices(ratios, k=rule.max_pairs)).verdict for _ in range(TRIALS // 4)]
    return verdicts.count(GateVerdict.FAIL) / len(verdicts)

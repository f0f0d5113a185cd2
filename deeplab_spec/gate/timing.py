"""Times a case: pairs until the rule has seen enough, and a second set of them before a FAIL is said."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from deeplab_spec.gate.confirm import NOT_CONFIRMED, concluded, confirming
from deeplab_spec.gate.pairs import Pair
from deeplab_spec.gate.rule import Decision, GateVerdict, Rule, decide, estimate, undecided
from deeplab_spec.views.progress import Progress

Measure = Callable[[int], Pair]
"""Measures the next pair, told how many will be measured at least, with that one."""

_DROPPED_SHARE: Final = 3
_DROPPED_FROM: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSet:
    """What one set of pairs says.

    Attributes:
        decision: The rule's verdict on them, and the estimate that it rests on.
        pairs: Those that count, in order.
        dropped: How many pairs were dropped because a clock differed or moved.
        reason: Why there is no decision, where there is none.
        seconds: How long all pairs took.
    """

    decision: Decision
    pairs: tuple[Pair, ...]
    dropped: int
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What the clock says of a case.

    Attributes:
        decision: The verdict on both sets; its estimate is that of the first.
        pairs: Those of the first set that count, in order.
        dropped: How many pairs of the first set were dropped because a clock differed or moved.
        reason: Why there is no decision, where there is none.
        seconds: How long all pairs of both sets took.
        confirmation: The second set, where the first said FAIL.
    """

    decision: Decision
    pairs: tuple[Pair, ...]
    dropped: int
    reason: str
    seconds: float
    confirmation: PairSet | None = None


def time_case(rule: Rule, measure: Measure, progress: Progress, name: str) -> Timing:
    """Run pairs until the rule decides, and again if it decides on FAIL.

    Args:
        rule: When it is decided.
        measure: Measures the next pair.
        progress: Told what is done, how many pairs are, and how many there may be.
        name: Of the case.
    """
    first = time_set(rule, measure, progress, name)
    second = None
    if first.decision.verdict is GateVerdict.FAIL:
        second = time_set(confirming(rule), measure, progress, f"{name}: confirming the slowdown")
    decision = concluded(first.decision, second.decision if second else None)
    reason = first.reason
    if second and decision.verdict is GateVerdict.INCONCLUSIVE:
        reason = f"{NOT_CONFIRMED}: {second.reason or f'it says {second.decision.verdict}'}"
    return Timing(
        decision=decision,
        pairs=first.pairs,
        dropped=first.dropped,
        reason=reason,
        seconds=first.seconds + (second.seconds if second else 0.0),
        confirmation=second,
    )


def time_set(rule: Rule, measure: Measure, progress: Progress, name: str) -> PairSet:
    """Run pairs until the rule decides.

    Args:
        rule: When it is decided.
        measure: Measures the next pair.
        progress: Told what is done, how many pairs are, and how many there may be.
        name: Of the case, and of the set.
    """
    kept: list[Pair] = []
    dropped: Counter[str] = Counter()
    seconds = 0.0
    decision: Decision | None = None
    reason = ""
    while decision is None:
        progress(_stage(name, rule, kept), len(kept), rule.max_pairs)
        pair = measure(next(look for look in rule.looks if look > len(kept)) - len(kept))
        seconds += pair.seconds
        if pair.disturbed:
            dropped[pair.disturbed] += 1
            reason = _too_many(dropped, len(kept))
            decision = undecided(rule, [pair.log_ratio for pair in kept]) if reason else None
            continue
        kept.append(pair)
        decision = decide(rule, [pair.log_ratio for pair in kept])
    if decision.verdict is GateVerdict.INCONCLUSIVE and not reason:
        reason = f"{rule.max_pairs} pairs were not enough to tell"
    return PairSet(decision=decision, pairs=tuple(kept), dropped=dropped.total(), reason=reason, seconds=seconds)


def _too_many(dropped: Counter[str], kept: int) -> str:
    """Say that more than a third of the pairs were dropped, and why; empty if they were not."""
    run = kept + dropped.total()
    if run < _DROPPED_FROM or dropped.total() * _DROPPED_SHARE <= run:
        return ""
    return ", ".join(f"{why} in {count} of {run} pairs" for why, count in dropped.most_common())


def _stage(name: str, rule: Rule, kept: Sequence[Pair]) -> str:
    if len(kept) < 2:  # noqa: PLR2004 - an estimate needs two
        return name
    seen = estimate(rule, [pair.log_ratio for pair in kept])
    left = (rule.max_pairs - len(kept)) * fmean(pair.seconds for pair in kept)
    return f"{name}: head takes {seen.log_ratio:+.1%}, at most {left:.0f} s more"

"""Times a case: pairs are measured until the rule decides, and a FAIL needs a second set that confirms it.

The rule's bound on false alarms holds for the first set alone. The second set can only withdraw a FAIL.
It follows the same rule on new pairs, with a larger ``alpha`` because it is an additional condition. It
protects against what all pairs of one set may share, such as minutes in which the machine was disturbed.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final

from deeplab_spec.gate.pairs import Pair
from deeplab_spec.gate.rule import Decision, GateVerdict, Rule, decide, estimate, undecided
from deeplab_spec.views.progress import Progress

Measure = Callable[[int], Pair]
"""Measures the next pair; its argument says how many pairs will be measured at least, including this one."""

CONFIRMING_ALPHA: Final = 0.1
"""Probability that the second set confirms a slowdown that is at most half of the margin."""

_DROPPED_SHARE: Final = 3
_DROPPED_FROM: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSet:
    """The result of one set of pairs.

    Attributes:
        decision: The rule's verdict, with the estimate that it rests on.
        pairs: The pairs that count, in order.
        dropped: How many pairs were dropped because a clock differed or changed.
        reason: Why there is no decision; empty if there is one.
        seconds: How long all pairs took.
    """

    decision: Decision
    pairs: tuple[Pair, ...]
    dropped: int
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing(PairSet):
    """The result of both sets. Pairs, dropped pairs and the estimate are those of the first set.

    Attributes:
        confirmation: The second set; None unless the first one says FAIL.
    """

    confirmation: PairSet | None = None


def time_case(rule: Rule, measure: Measure, progress: Progress, name: str) -> Timing:
    """Measure pairs until the rule decides, and a second set if it decides on FAIL.

    Args:
        rule: When the case is decided.
        measure: Measures the next pair.
        progress: Receives the stage, the number of pairs measured, and the largest number possible.
        name: The name of the case.
    """
    first = _time_set(rule, measure, progress, name)
    second = None
    if first.decision.verdict is GateVerdict.FAIL:
        second = _time_set(confirming(rule), measure, progress, f"{name}: confirming the slowdown")
    decision = concluded(first.decision, second.decision if second else None)
    reason = first.reason
    if second and decision.verdict is GateVerdict.INCONCLUSIVE:
        why = second.reason or f"it says {second.decision.verdict}"
        reason = f"a second set of processes did not confirm it: {why}"
    return Timing(
        decision=decision,
        pairs=first.pairs,
        dropped=first.dropped,
        reason=reason,
        seconds=first.seconds + (second.seconds if second else 0.0),
        confirmation=second,
    )


def confirming(rule: Rule) -> Rule:
    """Return the rule of the second set."""
    return replace(rule, alpha=CONFIRMING_ALPHA, cases=1)


def concluded(first: Decision, second: Decision | None) -> Decision:
    """Return the decision of both sets; a FAIL that the second set does not confirm is INCONCLUSIVE.

    Args:
        first: The decision on the first set.
        second: The decision of the confirming rule on the second set; None if there is no second set.
    """
    if first.verdict is not GateVerdict.FAIL or (second and second.verdict is GateVerdict.FAIL):
        return first
    return Decision(verdict=GateVerdict.INCONCLUSIVE, estimate=first.estimate)


def _time_set(rule: Rule, measure: Measure, progress: Progress, name: str) -> PairSet:
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
    """Return why pairs were dropped if these are more than a third of all; empty otherwise."""
    run = kept + dropped.total()
    if run < _DROPPED_FROM or dropped.total() * _DROPPED_SHARE <= run:
        return ""
    return ", ".join(f"{why} in {count} of {run} pairs" for why, count in dropped.most_common())


def _stage(name: str, rule: Rule, kept: Sequence[Pair]) -> str:
    """Describe the stage, with the slowdown so far and the longest time that is left."""
    if len(kept) < 2:  # noqa: PLR2004 - an estimate needs two
        return name
    current = estimate(rule, [pair.log_ratio for pair in kept])
    left = (rule.max_pairs - len(kept)) * fmean(pair.seconds for pair in kept)
    return f"{name}: head takes {current.log_ratio:+.1%}, at most {left:.0f} s more"

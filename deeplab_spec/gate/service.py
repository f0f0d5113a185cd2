"""The gate: opens both sides, decides every case by counts and by time, and returns a document.

Pairs are measured until the rule decides, and a FAIL needs a second set that confirms it. The rule's bound on false
alarms holds for the first set alone. The second set can only withdraw a FAIL. It follows the same rule on new pairs,
with a larger ``alpha`` because it is an additional condition. It protects against what all pairs of one set may
share, such as minutes in which the machine was disturbed.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from time import monotonic
from typing import Final

from deeplab_spec.errors import require_torch
from deeplab_spec.gate.cases import Case, machine
from deeplab_spec.gate.counts import compare_counts
from deeplab_spec.gate.document import (
    NO_PLANT,
    CaseResultModel,
    Decision,
    GateCaseModel,
    GateDocument,
    GateVerdict,
    PairSet,
    RuleModel,
    Timing,
)
from deeplab_spec.gate.pairs import CLOCK_FACTOR, DRIFT_FACTOR, Pair, PairProcesses, PairQueue, default_ahead
from deeplab_spec.gate.request import GateRequest, Settings
from deeplab_spec.gate.rule import Rule, decide, estimate, overall, undecided
from deeplab_spec.gate.sides import Side, opened
from deeplab_spec.gate.text import what_is_timed
from deeplab_spec.views.progress import Progress

Announce = Callable[[str], None]
"""Receives a line for the user."""


def gate(request: GateRequest, progress: Progress, announce: Announce) -> GateDocument:
    """Decide whether head is slower than base.

    Raises:
        MissingExtraError: If torch is not installed.
        SpecError: If a side has none of the supported forms.
        TargetError: If a side cannot be built or run, or the sides are different networks.
    """
    require_torch("gate")
    start = monotonic()
    rule = replace(request.settings.rule, cases=len(request.cases))
    settings = replace(request.settings, rule=rule)
    with (
        opened(request.base, request.target, request.arguments) as base,
        opened(request.head, request.target, request.arguments) as head,
    ):
        for side in (base, head):
            side.require_variant(request.cases)
        results = tuple(_run_case(case, base, head, settings, progress, announce) for case in request.cases)
    return GateDocument(
        base=request.base,
        head=request.head,
        rule=RuleModel.model_validate(rule, from_attributes=True),
        count_margin=settings.count_margin,
        witness_factor=CLOCK_FACTOR,
        drift_factor=DRIFT_FACTOR,
        confirming_alpha=CONFIRMING_ALPHA,
        plant=None if settings.plant == NO_PLANT else settings.plant,
        cases=results,
        verdict=overall([result.verdict for result in results]),
        machine=machine(),
        seconds=monotonic() - start,
    )


def _run_case(
    case: Case, base: Side, head: Side, settings: Settings, progress: Progress, announce: Announce
) -> CaseResultModel:
    """Decide one case: compare the counts, then measure pairs until there is a verdict."""
    progress(f"{case.name}: reading the graphs", 0, settings.rule.max_pairs)
    counts, reason = compare_counts(case, base, head, settings)
    built: tuple[str, str] | None = None

    def start(number: int) -> PairProcesses:
        return PairProcesses(case, base, head, settings.timeout, number=number, plant=settings.plant)

    def announce_built(calls: tuple[str, str]) -> None:
        nonlocal built
        built = calls
        announce(f"{case.name}: {what_is_timed(calls)}")

    with PairQueue(start, settings.ahead or default_ahead(case), announce_built) as queue:
        timing = time_case(settings.rule, queue.measure, progress, case.name)
    verdicts = [timing.decision.verdict, *([counts.verdict] if counts else [])]
    return CaseResultModel(
        case=GateCaseModel.model_validate(case, from_attributes=True),
        counts=counts,
        counts_reason=reason,
        timing=timing,
        verdict=overall(verdicts),
        built=built if timing.pairs else None,
    )


Measure = Callable[[int], Pair]
"""Measures the next pair; its argument says how many pairs will be measured at least, including this one."""

CONFIRMING_ALPHA: Final = 0.1
"""Probability that the second set confirms a slowdown that is at most half of the margin."""

_DROPPED_SHARE: Final = 3
_DROPPED_FROM: Final = 6


def time_case(rule: Rule, measure: Measure, progress: Progress, name: str) -> Timing:
    """Measure pairs until the rule decides, and a second set if it decides on FAIL."""
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
    """Return the decision of both sets; a FAIL that the second set does not confirm is INCONCLUSIVE."""
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

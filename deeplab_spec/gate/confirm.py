"""A FAIL is said when a second set of fresh processes finds the slowdown, too.

The rule's promise on false alarms holds for the first set alone. The second set can only take a FAIL
back: it follows the same rule on pairs of its own, at an error that is looser because it is one more
demand. It protects from what pairs of one set may share - minutes in which the machine was disturbed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from deeplab_spec.gate.rule import Decision, GateVerdict, Rule, decide, undecided

CONFIRMING_ALPHA: Final = 0.1
"""Probability that the second set confirms a slowdown that is not beyond half of the margin."""

NOT_CONFIRMED: Final = "a second set of processes did not confirm it"


def confirming(rule: Rule) -> Rule:
    """Return the rule of the second set."""
    return replace(rule, alpha=CONFIRMING_ALPHA, cases=1)


def concluded(first: Decision, second: Decision | None) -> Decision:
    """Return the decision of both sets; the estimate is that of the first.

    Args:
        first: What the rule decides on the first set.
        second: What the confirming rule decides on the second; None where there is none.
    """
    if first.verdict is not GateVerdict.FAIL or (second and second.verdict is GateVerdict.FAIL):
        return first
    return Decision(verdict=GateVerdict.INCONCLUSIVE, estimate=first.estimate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a gate does that meets known pairs.

    Attributes:
        verdict: What it says.
        first: What the first set says.
        pairs: How many pairs it runs, with those of the second set.
    """

    verdict: GateVerdict
    first: GateVerdict
    pairs: int


def course(rule: Rule, draw: Callable[[int], Sequence[float]]) -> Course:
    """Return what a gate does that meets known pairs.

    Args:
        rule: The rule of the first set.
        draw: Gives the log-ratios of as many pairs as are run next.
    """
    decision = _followed(rule, draw)
    again = _followed(confirming(rule), draw) if decision.verdict is GateVerdict.FAIL else None
    return Course(
        verdict=concluded(decision, again).verdict,
        first=decision.verdict,
        pairs=pairs_of(decision) + (pairs_of(again) if again else 0),
    )


def _followed(rule: Rule, draw: Callable[[int], Sequence[float]]) -> Decision:
    ratios: list[float] = []
    decision = None
    for look in rule.looks:
        ratios += draw(look - len(ratios))
        decision = decide(rule, ratios)
        if decision:
            break
    return decision or undecided(rule, ratios)


def pairs_of(decision: Decision) -> int:
    """Return how many pairs a decision rests on."""
    return decision.estimate.pairs if decision.estimate else 0

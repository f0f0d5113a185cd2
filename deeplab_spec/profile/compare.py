"""Puts two profiles side by side: how much longer every block takes, and how sure that is.

The differences of means are linear, so those of the blocks and of what is unattributed add up to the
total's. A block that one side lacks takes no time there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from deeplab_spec.profile.statistics import Interval, difference, slowdown


class Verdict(StrEnum):
    """Whether the total is slower by more than a limit."""

    WITHIN = "within"
    OVER = "over"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of one block.

    Attributes:
        path: The block.
        delta: Nanoseconds that it takes longer.
        slowdown: By which part it takes longer; None where one side takes no time.
    """

    path: str
    delta: Interval
    slowdown: Interval | None


def change(path: str, before: Sequence[int], after: Sequence[int]) -> Change:
    """Compare the steps of one block."""
    measured = any(before) and any(after)
    return Change(path=path, delta=difference(before, after), slowdown=slowdown(before, after) if measured else None)


def changes(before: Mapping[str, Sequence[int]], after: Mapping[str, Sequence[int]]) -> tuple[Change, ...]:
    """Compare every block of two sides, the largest change first.

    Args:
        before: Nanoseconds of every step, by block.
        after: The other side's.
    """
    nothing = [(0,) * len(next(iter(side.values()))) for side in (before, after)]
    found = [
        change(path, before.get(path, nothing[0]), after.get(path, nothing[1]))
        for path in dict.fromkeys((*before, *after))
    ]
    return tuple(sorted(found, key=lambda row: -abs(row.delta.mean)))


def verdict(total: Interval, limit: float) -> Verdict:
    """Decide whether a slowdown lies above a limit.

    Args:
        total: By which part the total takes longer.
        limit: The part that is allowed: 0.05 for 5 %.
    """
    if total.low > limit:
        return Verdict.OVER
    return Verdict.WITHIN if total.high <= limit else Verdict.UNDECIDED


def only_in(names: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    """Return the names that are not among others, in order."""
    known = set(others)
    return tuple(name for name in names if name not in known)

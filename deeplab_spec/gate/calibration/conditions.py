"""What a calibration plants: nothing, waits around the margin, and two optimisations that are lost.

The conditions take turns, in proportion to their shares: what disturbs the machine for minutes disturbs
all. Most recordings are of nothing and of the margin, for these decide the rates that are promised.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from deeplab_spec.gate.cases import Case
from deeplab_spec.gate.modes import CHANNELS_LAST, FOLDED
from deeplab_spec.gate.pairs import NOTHING, Plant
from deeplab_spec.gate.rule import Rule
from deeplab_spec.measure.parts import EAGER

SAME: Final = "A/A"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What is recorded.

    Attributes:
        name: Its name.
        slowdown: The planted slowdown; None where only the recordings can say how large it is.
        share: How many of the recordings are of it, in parts of all shares.
        base_mode: The mode of base.
        plant: What is done to head.
    """

    name: str
    slowdown: float | None
    share: int
    base_mode: str
    plant: Plant


def conditions(case: Case, rule: Rule) -> tuple[Condition, ...]:
    """Return what is recorded for a case: nothing planted, waits around the margin, two lost optimisations."""
    modes = case.mode.split("+")
    waits = tuple(
        Condition(
            name=f"wait {factor * rule.margin:.3g}",
            slowdown=factor * rule.margin,
            share=share,
            base_mode=case.mode,
            plant=Plant(wait=factor * rule.margin),
        )
        for factor, share in ((0.3, 4), (0.5, 4), (1.0, 18), (2.0, 2))
    )
    plain = "+".join(mode for mode in modes if mode not in {CHANNELS_LAST, FOLDED}) or EAGER
    lost = tuple(
        Condition(
            name=name,
            slowdown=None,
            share=4,
            base_mode=mode if plain == EAGER else f"{mode}+{plain}",
            plant=Plant(mode=plain),
        )
        for name, mode in (("lost channels_last", CHANNELS_LAST), ("unfused BN", FOLDED))
        if mode != FOLDED or case.direction == "forward"
    )
    same = Condition(name=SAME, slowdown=0.0, share=18, base_mode=case.mode, plant=NOTHING)
    return (same, *waits, *lost)


def schedule(wanted: Sequence[Condition], recordings: int) -> Iterator[Condition]:
    """Return the condition of each recording: spread over time, in proportion to the shares."""
    total = sum(condition.share for condition in wanted)
    done = dict.fromkeys((condition.name for condition in wanted), 0)
    for number in range(1, recordings + 1):
        late = max(wanted, key=lambda condition: condition.share * number / total - done[condition.name])
        done[late.name] += 1
        yield late

"""Which choices explain what differs, and which published network is nearest.

A choice explains a difference if deciding it otherwise makes the difference go away. The
explanation is searched greedily: the decision that removes most differences first.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from deeplab_spec.align.differences import ABSENT, Aspect, differences
from deeplab_spec.align.edits import Edit, edits
from deeplab_spec.align.match import Alignment, align, block_of
from deeplab_spec.align.shaped import Shaped
from deeplab_spec.errors import GraphError, SpecError
from deeplab_spec.graph.ops import Add, BatchNorm, Conv2d
from deeplab_spec.spec.choices import NAMES, Choices, ChoiceValue, choose, seen_values

Build = Callable[[Choices], Shaped]
"""Makes the network, in normal form, that a set of choices describes."""

Key = tuple[str, str | None, str]

_INVISIBLE: Final = frozenset(
    {"norm_momentum", "init", "aspp_dropout", "decoder_dropout", "sizes_accepted", "skip_rate"}
)
"""Choices that no graph in evaluation shows."""

_MOST_DECISIONS: Final = 12

_DETOUR: Final = 8
"""So many more differences may a decision leave at first, if others then explain them."""

_MOST_TRIALS: Final = 500
"""So many sets of decisions are compared with the candidate before the search ends."""

_NO_NETWORK: Final = 10**6


def key(difference: Aspect) -> Key:
    """Return what names a difference."""
    return (difference.path, difference.candidate_path, difference.attribute)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Choices that make a network the candidate, as far as choices can.

    Attributes:
        overrides: Decisions that differ from the starting choices.
        choice_of: The choice that explains a difference.
        unexplained: Differences that no choice explains.
    """

    overrides: Mapping[str, ChoiceValue]
    choice_of: Mapping[Key, str]
    unexplained: tuple[Aspect, ...]


def explain(choices: Choices, build: Build, alignment: Alignment) -> Explanation:
    """Search the decisions that explain the differences of an alignment.

    Args:
        choices: The decisions of the expected network.
        build: Makes the expected network of other decisions.
        alignment: The expected network of these choices, aligned with the candidate.
    """
    search = _Search(choices, build, alignment)
    overrides = search.improved(search.greedy({}))
    left = search.left(overrides)
    unexplained = search.first if left is None else left
    return Explanation(overrides=overrides, choice_of=search.attributed(overrides), unexplained=unexplained)


def attribute(
    choices: Choices, build: Build, alignment: Alignment, overrides: Mapping[str, ChoiceValue]
) -> Mapping[Key, str]:
    """Name the decision that explains each difference, for decisions that are known."""
    return _Search(choices, build, alignment).attributed(overrides)


class _Search:
    """The differences that remain under sets of decisions, each computed once."""

    def __init__(self, choices: Choices, build: Build, alignment: Alignment) -> None:
        self.choices = choices
        self.build = build
        self.alignment = alignment
        self.first = differences(alignment)
        self.known: dict[tuple[tuple[str, ChoiceValue], ...], tuple[Aspect, ...] | None] = {(): self.first}
        self.edited: dict[tuple[str, ChoiceValue], frozenset[Edit]] = {}

    @cached_property
    def trials(self) -> list[tuple[str, ChoiceValue]]:
        """Every decision worth trying."""
        trials = _trials(self.choices, self.alignment)
        return [trial for trial in trials if self._may_help(trial)] if self.first else []

    def _edits(self, name: str, value: ChoiceValue) -> frozenset[Edit]:
        if (name, value) not in self.edited:
            try:
                changed = self.build(choose(self.choices, {name: value}))
            except (SpecError, GraphError):
                self.edited[name, value] = frozenset()
            else:
                self.edited[name, value] = edits(self.alignment.expected.network, changed.network)
        return self.edited[name, value]

    def _may_help(self, trial: tuple[str, ChoiceValue]) -> bool:
        """Tell whether a decision changes where something differs, and not more elsewhere."""
        places = {_place(difference.path) for difference in self.first}
        changed = self._edits(*trial)
        here = self.alignment.expected.network
        own = (path for path, fact in changed if fact not in {"after", "inputs"} and path in here)
        elsewhere = sum(_place(path) not in places for path in own)
        return any(_place(path) in places for path, _ in changed) and elsewhere <= len(self.first)

    def left(self, overrides: Mapping[str, ChoiceValue]) -> tuple[Aspect, ...] | None:
        """Return what differs from the network of these decisions; None if there is no such network."""
        decided = tuple(sorted(overrides.items()))
        if decided not in self.known:
            if len(self.known) > _MOST_TRIALS:
                return None
            try:
                expected = self.build(choose(self.choices, overrides))
            except (SpecError, GraphError):
                self.known[decided] = None
            else:
                self.known[decided] = differences(align(expected, self.alignment.candidate))
        return self.known[decided]

    def count(self, overrides: Mapping[str, ChoiceValue]) -> int:
        left = self.left(overrides)
        return _NO_NETWORK if left is None else len(left)

    def greedy(self, overrides: dict[str, ChoiceValue]) -> dict[str, ChoiceValue]:
        """Add the decision that leaves fewest differences, as long as one helps."""
        promising = self.trials
        while self.count(overrides) and len(overrides) < _MOST_DECISIONS:
            helpful = self._helpful(overrides, promising) or self._helpful(overrides, self.trials)
            if not helpful:
                break
            _, name, value = min(helpful, key=lambda trial: trial[0])
            overrides = {**overrides, name: value}
            promising = [trial[1:] for trial in helpful]
        return overrides

    def _helpful(
        self, overrides: dict[str, ChoiceValue], trials: Iterable[tuple[str, ChoiceValue]]
    ) -> list[tuple[int, str, ChoiceValue]]:
        now = self.count(overrides)
        counts = [
            (self.count(overrides | {name: value}), name, value) for name, value in trials if name not in overrides
        ]
        return [trial for trial in counts if trial[0] < now]

    def improved(self, overrides: dict[str, ChoiceValue]) -> dict[str, ChoiceValue]:
        """Decide single choices otherwise where that explains more, or as much with fewer decisions."""
        best = overrides
        if not self.count(best):
            return best
        for name, decided in overrides.items():
            rest = {other: value for other, value in best.items() if other != name}
            values = [trial[1] for trial in self.trials if trial[0] == name and trial[1] != decided]
            for start in [rest, *({**rest, name: value} for value in values)]:
                if self.count(start) <= self.count(best) + _DETOUR:
                    best = min(best, self.greedy(start), key=lambda found: (self.count(found), len(found)))
                if not self.count(best):
                    return best
        return best

    def attributed(self, overrides: Mapping[str, ChoiceValue]) -> dict[Key, str]:
        """Name the decision that explains each difference: of several, the one that explains most."""
        explained = {name: self._explained(self._edits(name, value)) for name, value in overrides.items()}
        choice_of: dict[Key, str] = {}
        while explained:
            name = max(explained, key=lambda name: len(explained[name] - set(choice_of)))
            choice_of |= dict.fromkeys(explained.pop(name) - set(choice_of), name)
        return choice_of

    def _explained(self, changed: frozenset[Edit]) -> frozenset[Key]:
        return frozenset(
            key(difference)
            for difference in self.first
            if not changed.isdisjoint((difference.path, fact) for fact in _facts(difference))
        )


def _facts(difference: Aspect) -> tuple[str, ...]:
    """Return the edits of a node that show as this difference at its path."""
    if difference.expected == ABSENT:
        return ("after", "inputs")
    return (difference.attribute, "node")


def _place(path: str) -> str:
    """Return the block, the whole of the middle flow, or the part of the head, that a path stands in."""
    if path.startswith("backbone.middle_flow"):
        return "backbone.middle_flow"
    return block_of(path) if path.startswith("backbone") else path.split(".", maxsplit=1)[0]


def _trials(choices: Choices, alignment: Alignment) -> list[tuple[str, ChoiceValue]]:
    """Return every decision worth trying: known values, and numbers read off the candidate."""
    trials: list[tuple[str, ChoiceValue]] = [
        (name, value) for name in NAMES if name not in _INVISIBLE for value in seen_values(name)
    ]
    trials += _read_off(choices, alignment)
    decided = {name: getattr(choices, name) for name in NAMES}
    return [(name, value) for name, value in dict.fromkeys(trials) if decided[name] != value]


def _read_off(choices: Choices, alignment: Alignment) -> Iterable[tuple[str, ChoiceValue]]:
    yield from _rates(choices, alignment)
    yield from _eps(alignment)
    blocks = _change_of_middle_blocks(alignment)
    if blocks and choices.middle_blocks + blocks > 0:
        yield "middle_blocks", choices.middle_blocks + blocks
    stem = _candidate_conv(alignment, "backbone.entry_flow.stem.conv2.conv")
    if stem:
        yield "width", stem.channels_out / 64


def _candidate_conv(alignment: Alignment, path: str) -> Conv2d | None:
    partner = alignment.partner.get(path)
    op = alignment.candidate.network[partner].op if partner else None
    return op if isinstance(op, Conv2d) else None


def _rates(choices: Choices, alignment: Alignment) -> Iterable[tuple[str, ChoiceValue]]:
    rates = []
    for number in (1, 2, 3):
        for suffix in ("depthwise.conv", "conv"):
            conv = _candidate_conv(alignment, f"aspp.atrous{number}.{suffix}")
            if conv and conv.kernel != (1, 1):
                rates.append(conv.rate[0])
                break
    if len(rates) == 3:  # noqa: PLR2004 - three atrous branches
        yield "aspp_rates", (rates[0], rates[1], rates[2])
    exit2 = _candidate_conv(alignment, "backbone.exit_flow.block2.sepconv1.depthwise.conv")
    if exit2:
        first, second = choices.exit2_rates
        yield "exit2_rates", (exit2.rate[0], second)
        yield "exit2_rates", (first, exit2.rate[0])


def _eps(alignment: Alignment) -> Iterable[tuple[str, ChoiceValue]]:
    found: dict[bool, Counter[float]] = {True: Counter(), False: Counter()}
    for left, right in alignment.partner.items():
        op = alignment.candidate.network[right].op
        if isinstance(op, BatchNorm):
            found[left.startswith("backbone")][op.eps] += 1
    for backbone, counts in found.items():
        for eps, _ in counts.most_common(1):
            yield ("backbone_norm_eps" if backbone else "head_norm_eps"), eps


def _change_of_middle_blocks(alignment: Alignment) -> int:
    missing = sum(path.startswith("backbone.middle_flow") and path.endswith(".add") for path in alignment.missing)
    return sum(isinstance(alignment.candidate.network[path].op, Add) for path in alignment.extra) - missing

"""Searches the choices that describe a network.

Networks are compared by their fingerprints, which is cheap enough to try every value of every choice alone. Two
choices together change nearly the sum of what each changes, so a whole set is found in one step and then verified.
"""

from collections.abc import Callable, Container, Hashable, Iterator, Mapping, Sequence
from functools import cache
from typing import Final

from deeplab_spec.align.differences import Aspect, differences
from deeplab_spec.align.fingerprint import Bag, Fingerprint, Fingerprints, change, unlike
from deeplab_spec.align.infer_choices import Decision, infer_choices
from deeplab_spec.align.match import align
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.errors import GraphError, SpecError
from deeplab_spec.spec.choices import Choices, ChoiceValue, choose, names, overrides_between, seen_values

Build = Callable[[Choices], Shaped]
"""Builds the normal form of the network that a set of choices describes."""

INVISIBLE: Final = frozenset(
    {
        "norm_momentum",
        "backbone_norm_momentum",
        "init",
        "backbone_init",
        "aspp_dropout",
        "aspp_order",
        "decoder_dropout",
        "decoder_order",
        "pool_resize",
        "results",
        "sizes_accepted",
        "skip_rate",
        "width",
    }
)
"""Choices without an effect on the normal form, and the width, which is inferred before the search."""


@cache
def _known(family: type[Choices]) -> tuple[Decision, ...]:
    """Return every value that a choice of a family has in implementations, if it affects the normal form."""
    visible = (name for name in names(family) if name not in INVISIBLE)
    return tuple((name, value) for name in visible for value in seen_values(name, family))


_OF_HEADS: Final = frozenset(names(Choices))
"""The choices that every family has; the others are of its backbones."""

_MOST_STEPS: Final = 12
_MOST_DETOURS: Final = 6
"""Most decisions that are tried although they do not help alone."""

NO_NETWORK: Final = 10**6

Changes = tuple[dict[int, int], ...]
"""Changes of the fingerprint by one decision, for every candidate."""


class Library:
    """The networks that choices describe, at one output stride and size, with their fingerprints."""

    def __init__(self, build: Build) -> None:
        self.build = build
        self.fingerprints = Fingerprints()
        self._made: dict[Choices, Fingerprint | None] = {}

    def of(self, choices: Choices) -> Fingerprint | None:
        """Return the fingerprint of the network of some choices; None if they describe no network."""
        if choices not in self._made:
            try:
                self._made[choices] = self.fingerprints.of(self.build(choices))
            except (SpecError, GraphError):
                self._made[choices] = None
        return self._made[choices]


class Search:
    """Compares the networks of sets of choices with a candidate.

    There are a candidate in normal form and a library for every output stride. Of heads, a choice of backbones that
    changes nothing once never does.
    """

    def __init__(self, candidates: Sequence[Shaped], libraries: Sequence[Library], *, of_head: bool = False) -> None:
        self.candidates = candidates
        self.libraries = libraries
        places = zip(candidates, libraries, strict=True)
        self.expected = tuple(library.fingerprints.of(candidate) for candidate, library in places)
        self.effects: dict[tuple[str, ChoiceValue | None], set[Hashable]] = {}
        self.of_head = of_head
        self.without_effect: set[Decision] = set()

    def prints(self, choices: Choices) -> tuple[Fingerprint, ...] | None:
        """Return the fingerprints of some choices; None if they describe no network at some output stride."""
        prints = []
        for library in self.libraries:
            fingerprint = library.of(choices)
            if fingerprint is None:
                return None
            prints.append(fingerprint)
        return tuple(prints)

    def digests(self, choices: Choices) -> tuple[frozenset[tuple[int, int]], ...]:
        """Return the digests of the networks of some choices; equal networks have equal ones."""
        return tuple(fingerprint.digest for fingerprint in self.prints(choices) or ())

    def distance(self, choices: Choices) -> int:
        """Return in how many facts the network of some choices differs from the candidate."""
        prints = self.prints(choices)
        if prints is None:
            return NO_NETWORK
        return sum(unlike(left.facts, right.facts) for left, right in zip(prints, self.expected, strict=True))

    def exact(self, choices: Choices) -> bool:
        """Tell whether the network of some choices equals the candidate."""
        prints = self.prints(choices)
        return prints is not None and all(
            left.digest == right.digest for left, right in zip(prints, self.expected, strict=True)
        )

    def nodes_apart(self, choices: Choices) -> int:
        """Return the number of nodes, on both sides, without an equal one; 0 only for equal networks."""
        if self.exact(choices):
            return 0
        prints = self.prints(choices) or ()
        return max(1, sum(unlike(left.nodes, right.nodes) for left, right in zip(prints, self.expected, strict=True)))

    def unexplained(self, choices: Choices) -> tuple[tuple[Aspect, ...], ...]:
        """Return the differences of the network of some choices from each candidate."""
        if self.exact(choices):
            return ((),) * len(self.candidates)
        places = zip(self.candidates, self.libraries, strict=True)
        return tuple(differences(align(library.build(choices), candidate)) for candidate, library in places)

    def descend(self, choices: Choices, *, detours: bool = False) -> Choices:
        """Change choices as long as that reduces the distance.

        With detours, decisions are tried that help only together with another.
        """
        for _ in range(_MOST_STEPS):
            if self.exact(choices):
                break
            better = self.step(choices, detours=detours)
            if better is None:
                break
            choices = better
        return choices

    def step(self, choices: Choices, *, detours: bool) -> Choices | None:
        """Return choices with a smaller distance; None if none are found."""
        now = self.distance(choices)
        left = self.left(choices)
        known: dict[Decision, Changes] = {}
        for everything in (False, True):
            fresh = dict(self.changes(choices, left, known, everything=everything))
            known |= fresh
            better = self.greedy(choices, left, known, now) if fresh else None
            if better is not None:
                return better
        for name, value in _harmless(left, known) if detours else ():
            changed = choose(choices, {name: value})
            rest = self.left(changed)
            others = {decision: facts for decision, facts in known.items() if decision[0] != name}
            others |= dict(self.changes(changed, rest, {**known, (name, getattr(choices, name)): ()}, everything=False))
            better = self.greedy(changed, rest, others, now)
            if better is not None:
                return better
        return None

    def greedy(self, choices: Choices, left: Changes, known: Mapping[Decision, Changes], now: int) -> Choices | None:
        """Take the decision that explains most of the remaining changes, then the next; None if the distance stays.

        ``left`` are the changes that lead from the network of the choices to the candidate; the result must be nearer
        than ``now``.
        """
        rest = tuple(dict(facts) for facts in left)
        gains = {decision: _gain(rest, changed) for decision, changed in known.items()}
        chosen: dict[str, ChoiceValue] = {}
        while gains and max(gains.values()) > 0:
            name, value = max(gains, key=gains.__getitem__)
            chosen[name] = value
            _take(rest, known[name, value])
            gains = {decision: _gain(rest, known[decision]) for decision in gains if decision[0] != name}
        while chosen:
            better = choose(choices, chosen)
            if self.distance(better) < now:
                return better
            chosen.popitem()
        return None

    def left(self, choices: Choices) -> Changes:
        """Return the changes that lead from the network of some choices to the candidate."""
        return self.between(self.prints(choices) or (), self.expected)

    @staticmethod
    def between(before: Sequence[Fingerprint], after: Sequence[Fingerprint]) -> Changes:
        """Return the changes from one network to another."""
        return tuple(change(left.facts, right.facts) for left, right in zip(before, after, strict=True))

    def changes(
        self, choices: Choices, left: Changes, known: Container[Decision], *, everything: bool
    ) -> Iterator[tuple[Decision, Changes]]:
        """Return the changes by single decisions.

        Decisions that are known, and those known to affect only topics without a remaining change, are skipped; new
        values of a choice that has affected only such topics are tried if ``everything`` is.
        """
        open_topics = self.topics(left)
        before = self.prints(choices) or ()
        for name, value in self.decisions(choices):
            if (name, value) in known or (name, value) in self.without_effect:
                continue
            affected = self.effects.get((name, value))
            if affected is None and not everything:
                affected = self.effects.get((name, None))
            if affected and open_topics.isdisjoint(affected):
                continue  # the topics of this decision, or of this choice, already agree
            after = self.prints(choose(choices, {name: value}))
            if after is None:
                continue
            changed = self.between(before, after)
            if any(changed):
                for key in ((name, value), (name, None)):
                    self.effects.setdefault(key, set()).update(self.topics(changed))
                yield (name, value), changed
            elif self.of_head and name not in _OF_HEADS:
                self.without_effect.add((name, value))

    def topics(self, changed: Changes) -> set[Hashable]:
        """Return the topics of changes."""
        places = zip(self.libraries, changed, strict=True)
        return {
            (number, topic)
            for number, (library, facts) in enumerate(places)
            for topic in library.fingerprints.topics(facts)
        }

    def decisions(self, choices: Choices) -> Iterator[Decision]:
        """Return the decisions to try: known values, and numbers inferred from the candidate."""
        trials = list(_known(type(choices)))
        for candidate, library in zip(self.candidates, self.libraries, strict=True):
            trials += infer_choices(candidate, library.build(choices), choices)
        for name, value in dict.fromkeys(trials):
            if getattr(choices, name) != value:
                yield name, value

    def simplified(self, start: Choices, choices: Choices, fewest: int) -> Choices | None:
        """Remove overrides that are not needed; None unless fewer than a number remain."""
        if not self.as_near(start, choices) and fewest <= 1:
            return None
        decided = overrides_between(start, choices)
        needed = 0
        for name in decided:
            without = choose(choices, {name: getattr(start, name)})
            if self.as_near(without, choices):
                choices = without
            else:
                needed += 1
            if needed >= fewest:
                return None
        return choices

    def as_near(self, choices: Choices, others: Choices) -> bool:
        """Tell whether some choices are as near to the candidate as others."""
        return self.exact(choices) if self.exact(others) else self.distance(choices) <= self.distance(others)


def _gain(left: Sequence[Bag], changed: Sequence[Bag]) -> int:
    """Return by how many facts a change reduces the distance."""
    gain = 0
    for facts, now in zip(left, changed, strict=True):
        for fact, count in now.items():
            before = facts.get(fact, 0)
            gain += abs(before) - abs(before - count)
    return gain


def _harmless(left: Changes, known: Mapping[Decision, Changes]) -> list[Decision]:
    """Return the decisions that affect a remaining change, those that increase the distance least first."""
    losses = {
        decision: -_gain(left, changed)
        for decision, changed in known.items()
        if any(not facts.keys().isdisjoint(now) for facts, now in zip(left, changed, strict=True))
    }
    return sorted(losses, key=losses.__getitem__)[:_MOST_DETOURS]


def _take(left: Sequence[dict[int, int]], changed: Sequence[Bag]) -> None:
    for facts, now in zip(left, changed, strict=True):
        for fact, count in now.items():
            facts[fact] = facts.get(fact, 0) - count

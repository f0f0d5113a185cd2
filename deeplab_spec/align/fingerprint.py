"""Fingerprints of networks in normal form: they compare two networks without names and without an alignment.

A fingerprint is a bag of small facts and a digest of the whole. Comparing two bags takes well under a millisecond
and gives a distance; equal digests mean equal networks.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Final

from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.graph.ops import Add, Concat, Conv2d, Op, Resize, kind

Bag = Mapping[int, int]
"""How often each fact occurs, by its number."""


_ATTRIBUTES: Final = frozenset({"stride", "rate", "padding", "bias", "align_corners", "mode"})
"""Attributes that a convolution or a resize of any shape has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """One network, as facts.

    Attributes:
        facts: For every node: its operation, each of its attributes, its size, and its inputs. One fact is about
            one thing, so that different choices change different facts.
        nodes: Every whole node together with its inputs.
        digest: Every node with all nodes that it depends on; the order of a sum or a concatenation has no effect.
    """

    facts: Bag
    nodes: Bag
    digest: frozenset[tuple[int, int]]


class Fingerprints:
    """Takes fingerprints that can be compared with each other: equal facts have equal numbers."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._topics: dict[int, Hashable] = {}
        self._of_ops: dict[tuple[Op, int], tuple[int, int, tuple[int, ...]]] = {}

    def of(self, shaped: Shaped) -> Fingerprint:
        """Take the fingerprint of a network in normal form."""
        number = self._number
        kinds: dict[str, int] = {}
        labels: dict[str, int] = {}
        histories: dict[str, int] = {}
        facts: list[int] = []
        nodes: list[int] = []
        for node in shaped.network:
            size = shaped.shapes[node.path]
            whole, core, of_op = self._of_op(node.op, shaped.channels(node.path))
            kinds[node.path] = core
            labels[node.path] = label = number(("label", whole, size))
            ordered = not isinstance(node.op, Add | Concat)
            facts += of_op
            facts.append(number(("size", core, size[1:])))
            facts.append(number(("reads", core, _listed((kinds[path] for path in node.inputs), ordered=ordered))))
            around = _listed((labels[path] for path in node.inputs), ordered=ordered)
            nodes.append(number(("node", label, around)))
            before = _listed((histories[path] for path in node.inputs), ordered=ordered)
            histories[node.path] = number(("history", label, before))
        return Fingerprint(
            facts=Counter(facts), nodes=Counter(nodes), digest=frozenset(Counter(histories.values()).items())
        )

    def topics(self, facts: Iterable[int]) -> set[Hashable]:
        """Return the topics of facts: one attribute for layers of all shapes, or else the fact itself."""
        return {self._topics.get(fact, fact) for fact in facts}

    def _number(self, fact: Hashable) -> int:
        return self._numbers.setdefault(fact, len(self._numbers))

    def _of_op(self, op: Op, channels: int) -> tuple[int, int, tuple[int, ...]]:
        """Return the numbers of an operation, of its kind without the attributes, and of the facts about it."""
        if (op, channels) not in self._of_ops:
            core: Hashable = (kind(op), channels)
            attributes = [(field.name, getattr(op, field.name)) for field in fields(op)]
            if isinstance(op, Conv2d):
                core = (core, op.kernel, op.depthwise, op.channels_in)
                attributes = [(name, value) for name, value in attributes if name in _ATTRIBUTES]
                attributes.append(("groups", op.depthwise or op.groups))
            elif isinstance(op, Resize):
                core = (core, op.size)  # two resizes of a network may have the same channels
            number = self._number(("kind", core))
            facts = []
            for name, value in attributes:
                facts.append(self._number(("attribute", core, name, value)))
                if name in _ATTRIBUTES:
                    self._topics[facts[-1]] = name
            self._of_ops[op, channels] = (self._number(("op", op)), number, (number, *facts))
        return self._of_ops[op, channels]


def _listed(numbers: Iterable[int], *, ordered: bool) -> tuple[int, ...]:
    return tuple(numbers) if ordered else tuple(sorted(numbers))


def unlike(left: Bag, right: Bag) -> int:
    """Return how many entries, by their counts, are in one bag only.

    >>> unlike({1: 2, 2: 1}, {1: 1, 3: 1})
    3
    """
    return sum(abs(count) for count in change(left, right).values())


def change(before: Bag, after: Bag) -> dict[int, int]:
    """Return the counts that must be added to one bag to get the other.

    >>> change({1: 2, 2: 1}, {1: 1, 3: 1})
    {1: -1, 2: -1, 3: 1}
    """
    changed = {key: after.get(key, 0) - count for key, count in before.items() if after.get(key, 0) != count}
    changed.update((key, count) for key, count in after.items() if key not in before)
    return changed

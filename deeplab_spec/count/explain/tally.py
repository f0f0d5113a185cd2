"""The costs of one network by part and under every convention, for any size and number of classes.

A figure may leave out the auxiliary head or the layer of the logits, or count the backbone alone. So costs are summed
by group of nodes, once per network; after that a candidate takes microseconds. All counts are linear in the classes.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import mul
from typing import Final

from deeplab_spec.analysis.conventions import Convention
from deeplab_spec.analysis.protocol import Protocol
from deeplab_spec.analysis.terms import NOTHING, Mode, Sizes, Surroundings, Term, stored_by_node
from deeplab_spec.analysis.totals import Sides
from deeplab_spec.count.explain.axes import Group, View, views
from deeplab_spec.count.explain.figures import Quantity
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Pair
from deeplab_spec.spec.network import CLASSIFIER


@dataclass(frozen=True, slots=True)
class Linear:
    """A count that is linear in the number of classes.

    ``own`` is the count for the network's own classes, ``each`` that of one more class.
    """

    own: int = 0
    each: int = 0

    def __add__(self, other: "Linear") -> "Linear":
        return Linear(self.own + other.own, self.each + other.each)

    def times(self, count: int) -> "Linear":
        """Return a multiple."""
        return Linear(count * self.own, count * self.each)


NONE = Linear()


FORMS: Final[dict[str, Callable[[Sizes], int]]] = {
    "parameters": lambda sizes: sizes.parameters,
    "parameters and running statistics": lambda sizes: sizes.parameters + sizes.buffers,
    "parameters with normalisations folded": lambda sizes: sizes.folded_parameters,
}
"""What is counted of the stored numbers, by its name."""


@dataclass(frozen=True, slots=True)
class Row:
    """The operations of one part of a network under one convention.

    Attributes:
        convention: What counts as one operation.
        view: The part.
        own: Counts per pixel of every distinct size, for the network's own classes.
        each: The same for one more class; empty if it is nothing.
        once: Counted once for a network instead of for every image.
    """

    convention: Convention
    view: View
    own: tuple[int, ...]
    each: tuple[int, ...]
    once: Linear

    def at(self, pixels: Sequence[int]) -> Linear:
        """Return the count for one image, without what counts once."""
        return Linear(sum(map(mul, self.own, pixels)), sum(map(mul, self.each, pixels)))


_Counts = dict[int, Linear]
"""Counts by the number of a place; those made once have a number of their own."""
_ONCE: Final = -1


class Tally:
    """The costs of a network, ready for any size and protocol.

    Attributes:
        groups: The groups that the network has, in order.
        classes: Channels of its logits; 0 if they cannot be changed.
        rows: The operations of every part under every convention.
    """

    def __init__(
        self, network: Network, conventions: Sequence[Convention], shared: Collection[str] = (), unused: Linear = NONE
    ) -> None:
        """Sum the costs of a network.

        ``shared`` are the nodes whose parameters are counted at an earlier node; ``unused`` is the number of parameters
        that no operation uses.

        Raises:
            GraphError: If an operation is opaque, so that sizes after it are unknown.
        """
        more = with_one_more_class(network)
        layers = logits_layers(network) if more else ()
        layer = network[layers[0]].op if layers else None
        self.classes = layer.channels_out if isinstance(layer, Conv2d) else 0
        self._network, self._more = network, more or network
        self._changed = downstream(network, layers)
        self._of = groups_of(network)
        self._stored = self._sum_stored(shared)
        if unused != NONE:
            self._stored[Group.UNUSED] = dict.fromkeys(FORMS, unused)
        self.groups = tuple(group for group in Group if group in self._stored)
        self._sides = Sides(network)
        self._places: dict[Pair, int] = {}
        self._known: dict[Pair, list[int]] = {}
        self._passes: dict[Pair, list[Linear]] = {}
        sums = self._sum_counts(conventions)
        self.rows = tuple(
            self._row(convention, view, [by_group.get(group, {}) for group in view.groups])
            for convention, by_group in zip(conventions, sums, strict=True)
            for view in views(self.groups, Quantity.OPERATIONS)
        )

    def _sum_stored(self, shared: Collection[str]) -> dict[Group, dict[str, Linear]]:
        own, more = stored_by_node(self._network), stored_by_node(self._more)
        sums: dict[Group, dict[str, Linear]] = {group: dict.fromkeys(FORMS, NONE) for group in self._of.values()}
        for path, group in self._of.items():
            if path not in shared and own[path] is not NOTHING:
                for name, count in FORMS.items():
                    number = count(own[path])
                    sums[group][name] += Linear(number, count(more[path]) - number)
        return sums

    def _sum_counts(self, conventions: Sequence[Convention]) -> list[dict[Group, _Counts]]:
        """Return the counts of every convention by group; equal nodes are counted together."""
        own, more = Surroundings(self._network), Surroundings(self._more)
        sums: list[dict[Group, _Counts]] = [{} for _ in conventions]
        for paths in self._equal_nodes(own.channels):
            path, times = paths[0], len(paths)
            for by_group, convention in zip(sums, conventions, strict=True):
                counts = by_group.setdefault(self._of[path], {})
                terms = convention.formula(self._network[path], own, Mode.FORWARD)
                if path not in self._changed:
                    self._add(counts, terms, Linear(times))
                    continue
                self._add(counts, terms, Linear(times, -times))
                self._add(counts, convention.formula(self._more[path], more, Mode.FORWARD), Linear(0, times))
        return sums

    def _equal_nodes(self, channels: Mapping[str, int]) -> list[list[str]]:
        """Return the paths of nodes that cost the same: of one group, operator, channels and sizes."""
        alike: dict[object, list[str]] = {}
        for node in self._network:
            sizes = tuple((self._sides.place(path), channels[path]) for path in (node.path, *node.inputs))
            key = (self._of[node.path], node.op, sizes, node.path in self._changed, node.path == CLASSIFIER)
            alike.setdefault(key, []).append(node.path)
        return list(alike.values())

    def _add(self, counts: _Counts, terms: Sequence[Term], nodes: Linear) -> None:
        for term in terms:
            place = self._sides.place(term.pixels_of, term.tile)
            number = _ONCE if term.once else self._places.setdefault(place, len(self._places))
            counts[number] = counts.get(number, NONE) + nodes.times(term.count)

    def _row(self, convention: Convention, view: View, parts: Sequence[_Counts]) -> Row:
        sums = [sum((part.get(number, NONE) for part in parts), NONE) for number in range(_ONCE, len(self._places))]
        once, *counts = sums
        each = tuple(count.each for count in counts)
        return Row(convention, view, tuple(count.own for count in counts), each if any(each) else (), once)

    def stored(self, groups: Collection[Group], form: str) -> Linear:
        """Return the numbers that some groups store."""
        return sum((self._stored[group][form] for group in groups if group in self._stored), NONE)

    def rough(self, size: Pair, protocol: Protocol) -> int:
        """Return the count of the first row, for the network's own classes: all others are of its magnitude.

        Raises:
            GraphError: If the network does not take a size.
        """
        return protocol.images * sum(self.rows[0].at(self._pixels(scaled)).own for scaled in protocol.sizes(size))

    def operations(self, size: Pair, protocol: Protocol) -> list[Linear]:
        """Return the count of every row for the passes of a protocol.

        Raises:
            GraphError: If the network does not take a size.
        """
        first, *others = [self._one_pass(scaled) for scaled in protocol.sizes(size)]
        counts = [sum(several, NONE) for several in zip(first, *others, strict=True)] if others else first
        return [count.times(protocol.images) + row.once for row, count in zip(self.rows, counts, strict=True)]

    def _one_pass(self, size: Pair) -> list[Linear]:
        if size not in self._passes:
            pixels = self._pixels(size)
            self._passes[size] = [row.at(pixels) for row in self.rows]
        return self._passes[size]

    def _pixels(self, size: Pair) -> list[int]:
        """Return the pixels of every place."""
        if size not in self._known:
            heights, widths = self._sides.of_image(size)
            self._known[size] = [heights[row] * widths[column] for row, column in self._places]
        return self._known[size]


def logits_layers(network: Network) -> tuple[str, ...]:
    """Return the last convolution before every output that has one, that of the first output first."""
    found = []
    for output in network.outputs:
        node = output
        while not isinstance(node.op, Conv2d) and node.inputs and node.inputs[0] in network:
            node = network[node.inputs[0]]
        if isinstance(node.op, Conv2d):
            found.append(node.path)
    return tuple(dict.fromkeys(found))


def groups_of(network: Network) -> dict[str, Group]:
    """Return the group of every node."""
    main = network.upstream([network.outputs[0].path])
    layers = [CLASSIFIER] if CLASSIFIER in network else list(logits_layers(network)[:1])
    logits = downstream(network, layers) & main
    return {
        node.path: Group.AUXILIARY
        if node.path not in main
        else Group.LOGITS
        if node.path in logits
        else Group.BACKBONE
        if node.path.split(".")[0] in ("backbone", "input")
        else Group.HEAD
        for node in network
    }


def downstream(network: Network, paths: Collection[str]) -> frozenset[str]:
    """Return nodes and all that depends on them."""
    found = set(paths)
    for node in network:
        if not found.isdisjoint(node.inputs):
            found.add(node.path)
    return frozenset(found)


def with_one_more_class(network: Network) -> Network | None:
    """Return the network with one more class in every output; None if its classes cannot be changed.

    The outputs with as many channels as the first are those of classes.
    """
    layers = logits_layers(network)
    if not layers:
        return None
    ops = {path: network[path].op for path in layers}
    classes = ops[layers[0]]
    after = downstream(network, layers) - set(layers)
    changed: dict[str, Node] = {}
    for path, op in ops.items():
        if not isinstance(op, Conv2d) or not isinstance(classes, Conv2d) or op.groups > 1:
            return None
        if op.channels_out == classes.channels_out:
            changed[path] = replace(network[path], op=replace(op, channels_out=op.channels_out + 1))
    if any(isinstance(network[path].op, Conv2d | BatchNorm) for path in after):
        return None
    return network.with_nodes(changed.get(node.path, node) for node in network)

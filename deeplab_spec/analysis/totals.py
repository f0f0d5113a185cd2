"""Totals of a network for any input size and number of classes, in microseconds.

A network is compiled once: the sides of its values are expressions of the input's sides (a handful of distinct ones: a
window, a fixed size or a multiple of a rate, applied to another), and the terms of a convention become one coefficient
per expression. An evaluation then computes the expressions and one short sum. The formulas are those of
:mod:`deeplab_spec.analysis.costs`, for any convention and mode.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from deeplab_spec.analysis.conventions import MAC, Convention
from deeplab_spec.analysis.costs import Number, exact
from deeplab_spec.analysis.sizes import SideRule, side_rules
from deeplab_spec.analysis.terms import UNTILED, Mode, Sizes, Surroundings, merged, total_stored
from deeplab_spec.errors import GraphError
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Conv2d, GlobalAveragePool, Input, Multiply, Opaque, Pad, Pair, Pool, Resize
from deeplab_spec.spec.network import CLASSIFIER

_SAME_SIZE = SideRule(-1, 1)


@dataclass(frozen=True, slots=True)
class _Tile:
    """A side rounded up to a multiple."""

    pixels: int

    def __call__(self, size: int) -> int:
        return -(-size // self.pixels) * self.pixels


_Rule = SideRule | _Tile


@dataclass(frozen=True, slots=True)
class _Step:
    """One expression: a rule applied to another expression, or a fixed number of pixels."""

    path: str
    rule: _Rule | None
    operand: int


@dataclass(slots=True)
class _Axis:
    """The expressions of one side of the values.

    Attributes:
        inputs: Number of expressions that are sides of inputs; they come first.
        steps: The other expressions, each after its operand.
        equal: Pairs of expressions that must have one value, with the path of their reader.
    """

    inputs: int
    steps: list[_Step] = field(default_factory=list)
    equal: list[tuple[str, int, int]] = field(default_factory=list)
    known: dict[tuple[_Rule | None, int], int] = field(default_factory=dict)

    def apply(self, path: str, rule: _Rule, operand: int) -> int:
        return operand if rule == _SAME_SIZE else self._intern(path, rule, operand)

    def fixed(self, path: str, pixels: int) -> int:
        return self._intern(path, None, pixels)

    def _intern(self, path: str, rule: _Rule | None, operand: int) -> int:
        key = (rule, operand)
        if key not in self.known:
            self.known[key] = self.inputs + len(self.steps)
            self.steps.append(_Step(path, rule, operand))
        return self.known[key]

    def evaluate(self, sides: tuple[int, ...]) -> list[int]:
        values = list(sides)
        for step in self.steps:
            value = step.operand if step.rule is None else step.rule(values[step.operand])
            if value < 1:
                self._refuse_unequal(values)
                raise GraphError(step.path, "no side of a value may be empty", value)
            values.append(value)
        self._refuse_unequal(values)
        return values

    def _refuse_unequal(self, values: list[int]) -> None:
        for path, left, right in self.equal:
            if max(left, right) < len(values) and values[left] != values[right]:
                raise GraphError(path, "operands must have one size", (values[left], values[right]))


class Sides:
    """The sides of every value of a network, as expressions of the sides of its inputs.

    Attributes:
        inputs: Paths of the inputs.
    """

    def __init__(self, network: Network) -> None:
        """Compile a network.

        Raises:
            GraphError: If an operation is opaque, so that sizes after it are unknown.
        """
        self.inputs = tuple(node.path for node in network.inputs)
        self._axes = (_Axis(len(self.inputs)), _Axis(len(self.inputs)))
        self._places = self._compile(network)
        self._one = tuple(axis.fixed("one", 1) for axis in self._axes)

    def place(self, path: str | None, tile: Pair = UNTILED) -> Pair:
        """Return the expressions of a value's height and width, rounded up to a tile; of one pixel for None."""
        if path is None:
            return (self._one[0], self._one[1])
        row, column = self._places[path]
        if tile == UNTILED:
            return (row, column)
        down, across = self._axes
        return (down.apply(path, _Tile(tile[0]), row), across.apply(path, _Tile(tile[1]), column))

    def at(self, sizes: Mapping[str, Pair]) -> tuple[list[int], list[int]]:
        """Return the value of every expression, of heights and of widths, from the sizes of the inputs.

        Raises:
            GraphError: If a value would have an empty side, or operands do not fit.
        """
        pairs = [sizes[path] for path in self.inputs]
        if min(map(min, pairs)) < 1:
            raise GraphError("input", "height and width must be 1 or more", pairs)
        down, across = self._axes
        return down.evaluate(tuple(pair[0] for pair in pairs)), across.evaluate(tuple(pair[1] for pair in pairs))

    def of_image(self, size: Pair) -> tuple[list[int], list[int]]:
        """Return the value of every expression for a network of one input.

        Raises:
            GraphError: If it has several, a value would have an empty side, or operands do not fit.
        """
        if len(self.inputs) != 1:
            raise GraphError("network", "must have one input; use at()", self.inputs)
        return self.at({self.inputs[0]: size})

    def _compile(self, network: Network) -> dict[str, Pair]:
        """Return the expressions of both sides of every value."""
        places: dict[str, Pair] = {}
        down, across = self._axes
        for node in network:
            path = node.path
            first = places[node.inputs[0]] if node.inputs else (0, 0)
            match node.op:
                case Input():
                    places[path] = (self.inputs.index(path), self.inputs.index(path))
                case Conv2d() | Pool() | Pad() as op:
                    rules = side_rules(op)
                    places[path] = (down.apply(path, rules[0], first[0]), across.apply(path, rules[1], first[1]))
                case GlobalAveragePool():
                    places[path] = (down.fixed(path, 1), across.fixed(path, 1))
                case Resize(size=(height, width)):
                    places[path] = (down.fixed(path, height), across.fixed(path, width))
                case Resize():
                    places[path] = places[node.inputs[1]]
                case Multiply():
                    places[path] = first  # its factor is a pixel
                case Opaque(target=target):
                    raise GraphError(path, "the size of an opaque operation is not known", target)
                case _:
                    self._expect_one_size(node, places)
                    places[path] = first
        return places

    def _expect_one_size(self, node: Node, places: Mapping[str, Pair]) -> None:
        if len(node.inputs) == 1:
            return
        for axis, places_of_axis in enumerate(zip(*(places[path] for path in node.inputs), strict=True)):
            first, *others = places_of_axis
            self._axes[axis].equal += [(node.path, first, other) for other in others if other != first]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The costs of a whole network.

    Attributes:
        sizes: Parameters and buffers.
        operations: Operations for one image, under the evaluator's convention.
        once: The part of the operations that counts once, not for every image.
    """

    sizes: Sizes
    operations: Number
    once: Number = 0


class Evaluator:
    """The totals of one network, ready for any input size and number of classes.

    >>> from deeplab_spec.spec.network import network
    >>> from deeplab_spec.spec.variants import NOTEBOOK
    >>> evaluator = Evaluator(network(NOTEBOOK.choices))
    >>> evaluator(513, 513).operations
    65972773424
    >>> evaluator(513, 513, classes=19).sizes.parameters
    53554331
    """

    def __init__(self, network: Network, convention: Convention = MAC, mode: Mode = Mode.FORWARD) -> None:
        """Compile a network.

        Raises:
            GraphError: If an operation is opaque, so that sizes after it are unknown.
            SpecError: If the convention cannot count the mode.
        """
        convention.require(mode)
        self._network = network
        self._convention = convention
        self._mode = mode
        self._sides = Sides(network)
        self._terms, self._once = self._counted(network)
        self._sizes = total_stored(network)
        classifier = network[CLASSIFIER].op if CLASSIFIER in network else None
        self._classes = classifier.channels_out if isinstance(classifier, Conv2d) else 0

    def _counted(self, network: Network) -> tuple[dict[Pair, int], int]:
        """Return the counts by the expressions of their height and width, and the sum of the counts made once."""
        around = Surroundings(network)
        formula, mode = self._convention.formula, self._mode
        sums: dict[Pair, int] = {}
        once = 0
        for (path, tile, single), count in merged(
            term for node in network for term in formula(node, around, mode)
        ).items():
            if single:
                once += count
            else:
                place = self._sides.place(path, tile)
                sums[place] = sums.get(place, 0) + count
        return sums, once

    @cached_property
    def _per_class(self) -> tuple[dict[Pair, int], int, Sizes]:
        """The cost of one more class: every formula is linear in the channels of the logits."""
        more = with_classes(self._network, self._classes + 1)
        terms, once = self._counted(more)
        added = {place: count - self._terms.get(place, 0) for place, count in terms.items()}
        sizes = total_stored(more) + self._sizes.times(-1)
        return {place: count for place, count in added.items() if count}, once - self._once, sizes

    def __call__(self, height: int, width: int, classes: int | None = None) -> Totals:
        """Return the totals for one image.

        Args:
            height: Input height, in pixels.
            width: Input width, in pixels.
            classes: Channels of the logits; by default the network's own.

        Raises:
            GraphError: If a value would have an empty side, operands do not fit, the number of classes is below 1, or
                the network has no classifier whose classes could change.
        """
        return self._totals(self._sides.of_image((height, width)), classes)

    def at(self, sizes: Mapping[str, Pair], classes: int | None = None) -> Totals:
        """Return the totals for one image per input; the sizes are given by input path."""
        return self._totals(self._sides.at(sizes), classes)

    def _totals(self, sides: tuple[list[int], list[int]], classes: int | None) -> Totals:
        heights, widths = sides
        counted = self._once + _sum(self._terms, heights, widths)
        once, stored = self._once, self._sizes
        if classes is not None and classes != self._classes:
            if not self._classes:
                raise GraphError(CLASSIFIER, "must be in a network whose classes change", classes)
            if classes < 1:
                raise GraphError("classes", "must be 1 or more", classes)
            more = classes - self._classes
            terms, once_more, stored_more = self._per_class
            counted += more * (once_more + _sum(terms, heights, widths))
            once += more * once_more
            stored += stored_more.times(more)
        parts = self._convention.divisor
        return Totals(sizes=stored, operations=exact(counted, parts), once=exact(once, parts))


def _sum(terms: Mapping[Pair, int], heights: list[int], widths: list[int]) -> int:
    return sum(count * heights[row] * widths[column] for (row, column), count in terms.items())


def with_classes(network: Network, classes: int) -> Network:
    """Return the network with another number of classes.

    Raises:
        GraphError: If the classifier is not a convolution without groups, so that a class has no cost of its own.
    """
    op = network[CLASSIFIER].op
    if not isinstance(op, Conv2d) or op.groups > 1:
        raise GraphError("classifier", "must be a convolution without groups", op)
    changed = replace(network[CLASSIFIER], op=replace(op, channels_out=classes))
    return network.with_nodes(changed if node.path == CLASSIFIER else node for node in network)

"""Totals of a network for any input size and number of classes, in microseconds.

A network is compiled once: the sides of its values are expressions of the input's sides (a
handful of distinct ones, however many nodes there are), and the formulas of
:mod:`deeplab_spec.analysis.costs` become one coefficient per expression. An evaluation then
computes the expressions and one short sum. Everything is an integer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from deeplab_spec.analysis.costs import (
    FORMULAS,
    Convention,
    Sizes,
    classifier_per_class,
    stored,
    total_stored,
)
from deeplab_spec.analysis.sizes import SideRule, side_rules
from deeplab_spec.errors import GraphError
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Conv2d, GlobalAveragePool, Input, Opaque, Pad, Pair, Pool, Resize
from deeplab_spec.spec.network import CLASSIFIER

_SAME_SIZE = SideRule(-1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What a whole network costs.

    Attributes:
        sizes: What it stores.
        operations: What it computes for one image, under the evaluator's convention.
    """

    sizes: Sizes
    operations: int


@dataclass(frozen=True, slots=True)
class _Step:
    """One expression: a rule applied to another expression, or a fixed number of pixels."""

    path: str
    rule: SideRule | None
    operand: int


@dataclass(slots=True)
class _Axis:
    """The expressions of one side of the values.

    Attributes:
        inputs: How many expressions are inputs' sides; they come first.
        steps: The other expressions, each after its operand.
        equal: Pairs of expressions that must have one value, with the path of their reader.
    """

    inputs: int
    steps: list[_Step] = field(default_factory=list)
    equal: list[tuple[str, int, int]] = field(default_factory=list)
    known: dict[tuple[SideRule | None, int], int] = field(default_factory=dict)

    def apply(self, path: str, rule: SideRule, operand: int) -> int:
        return operand if rule == _SAME_SIZE else self._intern(path, rule, operand)

    def fixed(self, path: str, pixels: int) -> int:
        return self._intern(path, None, pixels)

    def _intern(self, path: str, rule: SideRule | None, operand: int) -> int:
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

    def __init__(self, network: Network, convention: Convention = Convention.MAC) -> None:
        """Compile a network.

        Raises:
            GraphError: If an operation is opaque, so that sizes after it are not known.
        """
        self._inputs = tuple(node.path for node in network.inputs)
        self._axes = (_Axis(len(self._inputs)), _Axis(len(self._inputs)))
        places = self._compile(network)
        formula = FORMULAS[convention]
        sums: dict[Pair, int] = {}
        for node in network:
            for term in formula(node):
                place = places[term.pixels_of]
                sums[place] = sums.get(place, 0) + term.count
        self._terms = tuple((*place, count) for place, count in sums.items())
        self._sizes = total_stored(network)
        self._classes = 0
        if CLASSIFIER in network:
            per_class = classifier_per_class(network[CLASSIFIER].op)
            self._classes = network[CLASSIFIER].op.channels_out  # type: ignore[union-attr]  # a convolution, as above
            self._sizes_per_class = stored(per_class)
            one = Node(path=CLASSIFIER, op=per_class)
            self._terms_per_class = tuple((*places[term.pixels_of], term.count) for term in formula(one))

    def _compile(self, network: Network) -> dict[str, Pair]:
        """Return the expressions of both sides of every value."""
        places: dict[str, Pair] = {}
        down, across = self._axes
        for node in network:
            path = node.path
            first = places[node.inputs[0]] if node.inputs else (0, 0)
            match node.op:
                case Input():
                    places[path] = (self._inputs.index(path), self._inputs.index(path))
                case Conv2d() | Pool() | Pad() as op:
                    rules = side_rules(op)
                    places[path] = (down.apply(path, rules[0], first[0]), across.apply(path, rules[1], first[1]))
                case GlobalAveragePool():
                    places[path] = (down.fixed(path, 1), across.fixed(path, 1))
                case Resize(size=(height, width)):
                    places[path] = (down.fixed(path, height), across.fixed(path, width))
                case Resize():
                    places[path] = places[node.inputs[1]]
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

    def __call__(self, height: int, width: int, classes: int | None = None) -> Totals:
        """Return the totals for one image.

        Args:
            height: Input height, in pixels.
            width: Input width, in pixels.
            classes: Channels of the logits; by default the network's own.

        Raises:
            GraphError: If a value would have an empty side, operands do not fit, there is no
                class, or the network has no classifier of which the classes could change.
        """
        if len(self._inputs) != 1:
            raise GraphError("network", "must have one input; use at()", self._inputs)
        return self.at({self._inputs[0]: (height, width)}, classes)

    def at(self, sizes: Mapping[str, Pair], classes: int | None = None) -> Totals:
        """Return the totals for one image per input, of the sizes given by input path."""
        pairs = [sizes[path] for path in self._inputs]
        if min(map(min, pairs)) < 1:
            raise GraphError("input", "height and width must be 1 or more", pairs)
        heights = self._axes[0].evaluate(tuple(pair[0] for pair in pairs))
        widths = self._axes[1].evaluate(tuple(pair[1] for pair in pairs))
        operations = sum(count * heights[row] * widths[column] for row, column, count in self._terms)
        if classes is None or classes == self._classes:
            return Totals(sizes=self._sizes, operations=operations)
        if not self._classes:
            raise GraphError(CLASSIFIER, "must be in a network whose classes change", classes)
        if classes < 1:
            raise GraphError("classes", "must be 1 or more", classes)
        more = classes - self._classes
        operations += more * sum(count * heights[row] * widths[column] for row, column, count in self._terms_per_class)
        return Totals(sizes=self._sizes + self._sizes_per_class.times(more), operations=operations)

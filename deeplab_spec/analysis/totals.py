"""Totals of a network for any input size, in microseconds.

A network is compiled once: the sides of its values are expressions of the input's sides (a handful of distinct ones: a
window, a fixed size or a multiple of a rate, applied to another), and the terms of a convention become one coefficient
per expression. An evaluation then computes the expressions and one short sum. The formulas are those of
:mod:`deeplab_spec.analysis.costs`, for any convention and mode.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from deeplab_spec.analysis.conventions import MAC, Convention
from deeplab_spec.analysis.costs import Number, exact
from deeplab_spec.analysis.sizes import SideRule, side_rules
from deeplab_spec.analysis.terms import UNTILED, Mode, Sizes, Surroundings, merged, total_stored
from deeplab_spec.errors import GraphError
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Conv2d, GlobalAveragePool, Input, Multiply, Opaque, Pad, Pair, Pool, Resize

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
        steps: The expressions, each after its operand; the side of the input is before them.
        equal: Pairs of expressions that must have one value, with the path of their reader.
    """

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
            self.steps.append(_Step(path, rule, operand))
            self.known[key] = len(self.steps)
        return self.known[key]

    def evaluate(self, side: int) -> list[int]:
        values = [side]
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
    """The sides of every value of a network, as expressions of the sides of its inputs."""

    def __init__(self, network: Network) -> None:
        """Compile a network.

        Raises:
            GraphError: If an operation is opaque, so that sizes after it are unknown.
        """
        self.inputs = tuple(node.path for node in network.inputs)
        self._axes = (_Axis(), _Axis())
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

    def of_image(self, size: Pair) -> tuple[list[int], list[int]]:
        """Return the value of every expression, of heights and of widths, for a network of one input.

        Raises:
            GraphError: If it has several, a value would have an empty side, or operands do not fit.
        """
        if len(self.inputs) != 1:
            raise GraphError("network", "must have one input", self.inputs)
        if min(size) < 1:
            raise GraphError("input", "height and width must be 1 or more", size)
        down, across = self._axes
        return down.evaluate(size[0]), across.evaluate(size[1])

    def _compile(self, network: Network) -> dict[str, Pair]:
        """Return the expressions of both sides of every value."""
        places: dict[str, Pair] = {}
        down, across = self._axes
        for node in network:
            path = node.path
            first = places[node.inputs[0]] if node.inputs else (0, 0)
            match node.op:
                case Input():
                    places[path] = (0, 0)
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

    ``once`` is the part of the operations that counts once, not for every image.
    """

    sizes: Sizes
    operations: Number
    once: Number = 0


class Evaluator:
    """The totals of one network, ready for any input size.

    >>> from deeplab_spec.spec.network import network
    >>> from deeplab_spec.spec.variants import NOTEBOOK
    >>> Evaluator(network(NOTEBOOK.choices))(513, 513).operations
    65972773424
    """

    def __init__(self, network: Network, convention: Convention = MAC, mode: Mode = Mode.FORWARD) -> None:
        """Compile a network.

        Raises:
            GraphError: If an operation is opaque, so that sizes after it are unknown.
            SpecError: If the convention cannot count the mode.
        """
        convention.require(mode)
        self._divisor = convention.divisor
        self._sides = Sides(network)
        self._stored = total_stored(network)
        self._once = 0
        self._counts: dict[Pair, int] = {}
        around = Surroundings(network)
        terms = merged(term for node in network for term in convention.formula(node, around, mode))
        for (path, tile, once), count in terms.items():
            if once:
                self._once += count
            else:
                place = self._sides.place(path, tile)
                self._counts[place] = self._counts.get(place, 0) + count

    def __call__(self, height: int, width: int) -> Totals:
        """Return the totals for one image of a height and width in pixels.

        Raises:
            GraphError: If the network has several inputs, a value would have an empty side, or operands do not fit.
        """
        heights, widths = self._sides.of_image((height, width))
        counted = self._once + sum(
            count * heights[row] * widths[column] for (row, column), count in self._counts.items()
        )
        return Totals(
            sizes=self._stored, operations=exact(counted, self._divisor), once=exact(self._once, self._divisor)
        )

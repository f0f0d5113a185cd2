"""The sides of every value of a network as expressions of its inputs' sides, evaluated in microseconds.

A network has a handful of distinct ones: a rule (a window, a fixed size, a multiple of a rate) applied to another.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from deeplab_spec.analysis.sizes import SideRule, side_rules
from deeplab_spec.analysis.terms import UNTILED
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

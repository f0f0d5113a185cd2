"""Floating-point operations: each operator's plain formula, run on numbers that count their operations."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest

from deeplab_spec.analysis.conventions import FULL
from deeplab_spec.analysis.flops import ACTIVATIONS, RESIZES
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    Add,
    BatchNorm,
    Conv2d,
    Dropout,
    GlobalAveragePool,
    Input,
    Multiply,
    Op,
    Output,
    Pad,
    Pool,
    PoolKind,
    Resize,
    ResizeMode,
)
from tests.analysis.test_traffic import branched
from tests.support.graphs import chain
from tests.support.per_node_module import costs_of, operations

SIDES = (4, 5)


class Ledger:
    """The number of operations so far."""

    def __init__(self) -> None:
        self.count = 0

    def numbers(self, count: int) -> list["Counted"]:
        """Return numbers whose operations are entered here."""
        return [Counted(1 + number, self) for number in range(count)]


class Counted:
    """A number that counts every operation on it."""

    def __init__(self, value: float, ledger: Ledger) -> None:
        self.value = value
        self.ledger = ledger

    def _enter(self, value: float) -> "Counted":
        self.ledger.count += 1
        return Counted(value, self.ledger)

    def __add__(self, other: "Counted | float") -> "Counted":
        return self._enter(self.value + _value(other))

    def __sub__(self, other: "Counted | float") -> "Counted":
        return self._enter(self.value - _value(other))

    def __rsub__(self, other: float) -> "Counted":
        return self._enter(other - self.value)

    def __mul__(self, other: "Counted | float") -> "Counted":
        return self._enter(self.value * _value(other))

    def __truediv__(self, other: "Counted | float") -> "Counted":
        return self._enter(self.value / _value(other))

    def __neg__(self) -> "Counted":
        return self._enter(-self.value)

    def __gt__(self, other: "Counted | float") -> bool:
        self.ledger.count += 1
        return self.value > _value(other)

    def __lt__(self, other: "Counted | float") -> bool:
        self.ledger.count += 1
        return self.value < _value(other)

    def apply(self, function: Callable[[float], float]) -> "Counted":
        """Apply a root or a transcendental function."""
        return self._enter(function(self.value))


def _value(other: "Counted | float") -> float:
    return other.value if isinstance(other, Counted) else other


Number = Counted
ROOT = math.sqrt(2)


def at_most(x: Number, bound: float) -> Number:
    """Return the smaller of the two."""
    return x if x < bound else Counted(bound, x.ledger)


def at_least(x: Number, bound: float) -> Number:
    """Return the larger of the two."""
    return x if x > bound else Counted(bound, x.ledger)


def sigmoid(x: Number) -> Number:
    """Return 1 / (1 + exp(-x))."""
    divisor = (-x).apply(math.exp) + 1.0
    return divisor._enter(1 / divisor.value)


def hardsigmoid(x: Number) -> Number:
    """Return min(max(x + 3, 0), 6) / 6."""
    return at_most(at_least(x + 3.0, 0.0), 6.0) / 6.0


def gelu_slope(x: Number) -> Number:
    """Return the normal distribution at x, and x times its density."""
    below = ((x / ROOT).apply(math.erf) + 1.0) * 0.5
    density = (x * x * -0.5).apply(math.exp) * 0.4
    return below + x * density


def silu_slope(x: Number) -> Number:
    """Return s (1 + x (1 - s)) with the sigmoid s; the input is kept, so s is made afresh."""
    s = sigmoid(x)
    return s * (x * (1.0 - s) + 1.0)


def inside(x: Number, low: float, high: float, slope: Callable[[Number], Number]) -> Number:
    """Return a slope between two bounds, and a constant outside; the branch that does most."""
    assert x > low
    assert x < high
    return slope(x)


# fmt: off
FORWARD: dict[ActivationKind, Callable[[Number], Number]] = {
    ActivationKind.RELU: lambda x: at_least(x, 0.0),
    ActivationKind.RELU6: lambda x: at_most(at_least(x, 0.0), 6.0),
    ActivationKind.LEAKY_RELU: lambda x: x * 0.1 if x > -9.0 else x,
    ActivationKind.ELU: lambda x: (x.apply(math.exp) - 1.0) * 0.5 if x > -9.0 else x,
    ActivationKind.SIGMOID: sigmoid,
    ActivationKind.TANH: lambda x: x.apply(math.tanh),
    ActivationKind.SILU: lambda x: x * sigmoid(x),
    ActivationKind.GELU: lambda x: x * 0.5 * ((x / ROOT).apply(math.erf) + 1.0),
    ActivationKind.HARDSIGMOID: hardsigmoid,
    ActivationKind.HARDSWISH: lambda x: x * hardsigmoid(x),
}
BACKWARD: dict[ActivationKind, Callable[[Number, Number], Number]] = {
    # Of what is kept, the result where that is enough, and the gradient that arrives.
    ActivationKind.RELU: lambda y, dy: dy if y > 0.0 else y,
    ActivationKind.RELU6: lambda x, dy: inside(x, 0.0, 6.0, lambda _: dy),
    ActivationKind.LEAKY_RELU: lambda x, dy: dy * 0.1 if x > -9.0 else dy,
    ActivationKind.ELU: lambda x, dy: x.apply(math.exp) * 0.5 * dy if x > -9.0 else dy,
    ActivationKind.SIGMOID: lambda y, dy: y * (1.0 - y) * dy,
    ActivationKind.TANH: lambda y, dy: (1.0 - y * y) * dy,
    ActivationKind.SILU: lambda x, dy: silu_slope(x) * dy,
    ActivationKind.GELU: lambda x, dy: gelu_slope(x) * dy,
    ActivationKind.HARDSIGMOID: lambda x, dy: inside(x, -3.0, 3.0, lambda _: dy / 6.0),
    ActivationKind.HARDSWISH: lambda x, dy: inside(x, -3.0, 3.0, lambda x: (x / 3.0 + 0.5) * dy),
}
# fmt: on


@pytest.mark.parametrize("kind", ActivationKind)
def test_an_activation_costs_what_its_plain_formula_does(kind: ActivationKind) -> None:
    """Per element, in both directions; of several branches of a function, the most expensive one."""
    forward, backward = Ledger(), Ledger()
    FORWARD[kind](*forward.numbers(1))
    BACKWARD[kind](*backward.numbers(2))

    assert ACTIVATIONS[kind] == (forward.count, backward.count)


@pytest.mark.parametrize(
    ("mode", "taps"), [(ResizeMode.NEAREST, 1), (ResizeMode.BILINEAR, 4), (ResizeMode.BICUBIC, 16)]
)
def test_a_resize_costs_a_product_for_each_sample_and_their_sums(mode: ResizeMode, taps: int) -> None:
    """Backward, each sample gets its share added; one sample has no weight."""
    forward, backward = Ledger(), Ledger()
    if taps > 1:
        first, *others = [sample * 0.25 for sample in forward.numbers(taps)]
        for share in others:
            first = first + share
    gradient, *sums = backward.numbers(1 + taps)
    for sample in sums:
        sample + (gradient * 0.25 if taps > 1 else gradient)

    assert RESIZES[mode] == (forward.count, backward.count)


def counts(op: Op) -> tuple[int, int, int]:
    """Return the cost of an operator on 4 channels of 4x5: in evaluation, and in both passes of a training step.

    The second figure is the step's where no gradient flows to the input, the third where one does.
    """
    bare = costs_of(chain(op), SIDES, FULL)
    first = Conv2d(channels_in=4, channels_out=4)
    alone = costs_of(chain(op), SIDES, FULL, Mode.TRAIN)
    behind = costs_of(chain(first, op), SIDES, FULL, Mode.TRAIN)
    return operations(bare)["n1"], operations(alone)["n1"], operations(behind)["n2"]  # type: ignore[return-value]


def test_a_convolution_costs_two_for_every_tap_that_is_read() -> None:
    """Enumerate the taps; a bias is one more, and backward a sum per output element."""
    op = Conv2d(channels_in=4, channels_out=6, kernel=(3, 1), padding=(1, 1, 0, 0), groups=2, bias=True)
    ledger = Ledger()
    outputs = list(product(range(6), range(4), range(5)))
    for _ in outputs:
        total, weight = ledger.numbers(2)
        for _ in product(range(2), range(3)):
            total = total + weight * weight
    taps, biases = ledger.count, len(outputs)

    assert counts(op) == (taps + biases, 2 * (taps + biases), 3 * taps + 2 * biases)
    assert counts(replace(op, bias=False)) == (taps, 2 * taps, 3 * taps)


def invert(variance: Number) -> Number:
    """Return the reciprocal root of a variance, which is one operation, and the sum before it."""
    return (variance + 1e-3).apply(lambda value: 1 / math.sqrt(value))


def normalise(values: list[Number], mean: Number, inverse: Number, *, affine: bool) -> None:
    """Scale and shift; without affine parameters, subtract the mean and scale."""
    if affine:
        scale = inverse * 1.5
        shift = 0.5 - mean * scale
        for value in values:
            value * scale + shift
    else:
        for value in values:
            (value - mean) * inverse


def take_statistics(values: list[Number], running: Number) -> tuple[Number, Number]:
    """Return mean and reciprocal deviation, and keep the running ones."""
    first, second = values[0].ledger.numbers(2)
    for value in values:
        first = first + value
    mean = first / 20.0
    for value in values:
        difference = value - mean
        second = second + difference * difference
    variance = second / 20.0
    running * 0.9 + mean * 0.1
    running * 0.9 + variance * (20 / 19) * 0.1
    return mean, invert(variance)


def send_back(values: list[Number], gradients: list[Number], *, affine: bool, flows: bool) -> None:
    """Return the gradients of scale, offset and input."""
    first, second, mean, inverse = values[0].ledger.numbers(4)
    for value, gradient in zip(values, gradients, strict=True):
        first = first + gradient
        second = second + gradient * (value - mean)
    of_scale = second * inverse if affine else second
    if flows:
        a = inverse * 1.5
        b = a * inverse * of_scale / 20.0
        c = b * mean - a * first / 20.0
        for value, gradient in zip(values, gradients, strict=True):
            a * gradient - b * value + c


@pytest.mark.parametrize("affine", [True, False])
def test_a_normalisation_costs_its_plain_formula(affine: bool) -> None:  # noqa: FBT001 - a case
    """Per channel of 20 values: in evaluation, and both passes of a training step."""
    evaluation, forward, last, through = Ledger(), Ledger(), Ledger(), Ledger()
    *values, mean, variance = evaluation.numbers(22)
    normalise(values, mean, invert(variance), affine=affine)
    *values, running = forward.numbers(21)
    normalise(values, *take_statistics(values, running), affine=affine)
    for ledger in (last, through):
        if affine or ledger is through:  # else there is nothing that learns
            send_back(ledger.numbers(20), ledger.numbers(20), affine=affine, flows=ledger is through)

    assert counts(BatchNorm(channels=4, eps=1e-3, momentum=0.1, affine=affine)) == (
        4 * evaluation.count,
        4 * (forward.count + last.count),
        4 * (forward.count + through.count),
    )


WINDOW = {"kernel": (2, 3), "stride": (2, 2)}


@pytest.mark.parametrize(
    ("op", "forward", "step"),
    [
        (Activation(), 80, 160),
        (Activation(kind=ActivationKind.SILU), 5 * 80, (5 + 9) * 80),
        (Add(), 80, 80),
        (GlobalAveragePool(), 80, 160 - 80 + 4),
        (Pool(kind=PoolKind.MAX, **WINDOW), 16 * 5, 16 * 5 + 16),  # type: ignore[arg-type]
        (Pool(kind=PoolKind.AVERAGE, **WINDOW), 16 * 6, 16 * 6 + 16 * 6),  # type: ignore[arg-type]
        (Resize(size=(6, 7)), 168 * 7, 168 * 15),
        (Resize(mode=ResizeMode.NEAREST, size=(6, 7)), 0, 168),
        (Dropout(probability=0.5), 0, 3 * 80),
        (Pad(margins=(1, 1, 1, 1)), 0, 0),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, int) else "",
)
def test_an_operator_without_weights_costs_what_is_done_to_its_80_elements(op: Op, forward: int, step: int) -> None:
    """Without a parameter before it there is no backward pass."""
    if isinstance(op, Add):
        costs = operations(costs_of(branched(), SIDES, FULL))
        trained = operations(costs_of(branched(), SIDES, FULL, Mode.TRAIN))
        assert (costs["sum"], trained["sum"]) == (forward, step)
        return
    in_training = 2 * 80 if isinstance(op, Dropout) else forward
    assert counts(op) == (forward, in_training, step)


def test_a_gate_costs_a_product_and_in_training_one_for_the_map_and_two_for_the_factor() -> None:
    """The factor's gradient is a product for every one of 80 elements, added up."""
    pixel = Conv2d(channels_in=4, channels_out=4)
    nodes = (
        Node(path="x", op=Input(channels=4)),
        Node(path="mean", op=GlobalAveragePool(), inputs=("x",)),
        Node(path="factor", op=pixel, inputs=("mean",)),
        Node(path="gate", op=Multiply(), inputs=("x", "factor")),
        Node(path="y", op=Output(name=""), inputs=("gate",)),
    )
    learned = replace(nodes[0], path="image"), Node(path="x", op=pixel, inputs=("image",)), *nodes[1:]
    steps = [costs_of(Network(nodes=graph), SIDES, FULL, Mode.TRAIN) for graph in (nodes, learned)]

    assert operations(costs_of(Network(nodes=nodes), SIDES, FULL))["gate"] == 80
    assert [operations(costs)["gate"] for costs in steps] == [80 + 2 * 80, 80 + 3 * 80]


def test_gradients_of_a_value_that_several_read_are_added_up() -> None:
    """Three gradients of 80 elements are two sums; a value that is read twice by one operator has one."""
    costs = operations(costs_of(branched(), SIDES, FULL, Mode.TRAIN))

    multiply_adds = 12 * 20
    assert costs["n1"] == 2 * (2 * multiply_adds + 80) + 2 * 80
    assert costs["join"] == 160
    assert costs["relu"] == 2 * 80
    assert costs["twice"] == 160

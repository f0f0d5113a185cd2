"""The differences of two aligned networks, node by node and attribute by attribute.

Only causes are reported. A consequence of another difference (the input channels of a convolution with another
input, the size of a resize to another map) is not a difference of its own.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace

from deeplab_spec.align.cost import comparable_rates, excess
from deeplab_spec.align.match import Alignment, align, align_through
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Activation,
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    GlobalAveragePool,
    Multiply,
    Op,
    Opaque,
    Output,
    Pool,
    Resize,
    kind,
)

Fact = str | int | float | bool | None | tuple[str, ...] | tuple[int, ...]

ABSENT = "absent"

_WORDS: Mapping[type[Op], str] = {
    Add: "sum",
    Multiply: "product",
    Concat: "concatenation",
    GlobalAveragePool: "global average pooling",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Aspect:
    """One attribute of one node, on both sides.

    Attributes:
        path: The expected node. For an extra node, the node that it follows, or its own reader if the node that it
            follows has several readers.
        candidate_path: The candidate's node; None if it has none.
        op: The operation.
        attribute: ``node`` (whether it exists), ``inputs``, or a field of the operation.
        expected: The expected value.
        actual: The candidate's value.
        equal: Whether the two agree.
    """

    path: str
    candidate_path: str | None
    op: Op
    attribute: str
    expected: Fact
    actual: Fact
    equal: bool


def aspects(alignment: Alignment) -> tuple[Aspect, ...]:
    """Compare every attribute of every node."""
    return tuple(_compare(alignment))


def differences(alignment: Alignment) -> tuple[Aspect, ...]:
    """Return the attributes in which the candidate differs."""
    return tuple(aspect for aspect in _compare(alignment, skip_equal=True) if not aspect.equal)


def describe(op: Op) -> str:
    """Describe an operation in few words.

    >>> describe(Conv2d(channels_in=728, channels_out=728, kernel=(3, 3), groups=728, rate=(2, 2)))
    'depthwise 3x3 convolution, 728 channels, rate 2'
    """
    match op:
        case Conv2d():
            label = "depthwise " if op.depthwise else ""
            text = f"{label}{op.kernel[0]}x{op.kernel[1]} convolution"
            text += (
                f", {op.channels_out} channels" if op.depthwise else f", {op.channels_in} to {op.channels_out} channels"
            )
            for name, value in (("stride", op.stride), ("rate", op.rate)):
                if value != (1, 1):
                    text += f", {name} {fact(value)}"
            return text
        case BatchNorm():
            return f"normalisation, eps {op.eps}"
        case Activation():
            return f"{op.kind.value} activation"
        case Pool():
            return f"{op.kind.value} pooling"
        case Resize():
            return f"{op.mode.value} resize"
        case Opaque():
            return op.target
        case _:
            return _WORDS.get(type(op), kind(op).lower())


def fact(value: object) -> Fact:
    """Return a value as reports show it: a pair of equal numbers is one number.

    >>> fact((6, 6)), fact((1, 2))
    (6, (1, 2))
    """
    if isinstance(value, tuple):
        return value[0] if len(set(value)) == 1 else value
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return str(value)


def nearer_alignment(alignment: Alignment, nearest: Shaped) -> Alignment:
    """Return the alignment by way of the nearest network if the candidate is that, or fewer differences are left."""
    other = align_through(alignment.expected, nearest, alignment.candidate)
    if not differences(align(nearest, alignment.candidate)):
        return other
    return other if len(differences(other)) < len(differences(alignment)) else alignment


def _compare(alignment: Alignment, *, skip_equal: bool = False) -> Iterator[Aspect]:
    expected, candidate = alignment.expected.network, alignment.candidate.network
    origin = Origins(alignment)
    partner = alignment.partner
    for node in expected:
        if node.path not in partner:
            yield compare(node, None, "node", (describe(node.op), ABSENT))
            continue
        other = candidate[partner[node.path]]
        if skip_equal and node.op == other.op and tuple(map(partner.get, node.inputs)) == other.inputs:
            continue
        yield compare(node, other.path, "node", (describe(node.op), describe(node.op)))
        yield from _attributes(alignment, node, other)
        if node.inputs:
            yield _inputs(origin, node, other)
    for path in alignment.extra:
        node = candidate[path]
        yield compare(replace(node, path=origin.anchor(node)), path, "node", (ABSENT, describe(node.op)))


def compare(
    node: Node, other: str | None, attribute: str, values: tuple[Fact, Fact], *, equal: bool | None = None
) -> Aspect:
    """Compare an attribute of an expected node and its partner.

    ``values`` are the expected and the candidate's; they agree if they are equal, unless ``equal`` says otherwise.
    """
    return Aspect(
        path=node.path,
        candidate_path=other,
        op=node.op,
        attribute=attribute,
        expected=values[0],
        actual=values[1],
        equal=values[0] == values[1] if equal is None else equal,
    )


def _attributes(alignment: Alignment, node: Node, other: Node) -> Iterator[Aspect]:
    match node.op, other.op:
        case Conv2d() as expected, Conv2d() as actual:
            yield from _conv(node, other, expected, actual)
        case BatchNorm() as expected, BatchNorm() as actual:
            yield compare(node, other.path, "eps", (expected.eps, actual.eps))
            yield compare(node, other.path, "affine", (expected.affine, actual.affine))
        case Resize() as expected, Resize() as actual:
            yield compare(node, other.path, "mode", (expected.mode.value, actual.mode.value))
            yield compare(node, other.path, "align_corners", (expected.align_corners, actual.align_corners))
            equal = expected.size == actual.size or _follows(alignment, node, actual)
            yield compare(node, other.path, "size", (expected.size, actual.size), equal=equal)
        case Output(), Output():
            return
        case expected, actual:
            for field in fields(expected):
                values = (fact(getattr(expected, field.name)), fact(getattr(actual, field.name)))
                yield compare(node, other.path, field.name, values)


def _conv(node: Node, other: Node, expected: Conv2d, actual: Conv2d) -> Iterator[Aspect]:
    for name in ("kernel", "stride"):
        yield compare(node, other.path, name, (fact(getattr(expected, name)), fact(getattr(actual, name))))
    equal = all(left == right for left, right in comparable_rates(expected, actual))
    yield compare(node, other.path, "rate", (fact(expected.rate), fact(actual.rate)), equal=equal)
    padding = (fact(expected.padding), fact(actual.padding))
    yield compare(
        node, other.path, "padding", padding, equal=excess(expected) == excess(actual) or padding[0] == padding[1]
    )
    both = expected.depthwise and actual.depthwise
    yield compare(
        node, other.path, "groups", (expected.groups, actual.groups), equal=both or expected.groups == actual.groups
    )
    multiplier = expected.channels_out * actual.channels_in == actual.channels_out * expected.channels_in
    equal = multiplier if both else expected.channels_out == actual.channels_out
    yield compare(node, other.path, "channels_out", (expected.channels_out, actual.channels_out), equal=equal)
    yield compare(node, other.path, "bias", (expected.bias, actual.bias))


def _follows(alignment: Alignment, node: Node, resize: Resize) -> bool:
    """Tell whether a resize takes the size of the expected map, although that map has another size."""
    like = alignment.expected.likes.get(node.path)
    partner = alignment.partner.get(like) if like else None
    return partner is not None and alignment.candidate.map_size(partner) == resize.size


def _inputs(origin: "Origins", node: Node, other: Node) -> Aspect:
    expected = Counter(path for value in node.inputs for path in origin.of_expected(value))
    actual = Counter(path for value in other.inputs for path in origin.of_candidate(value))
    equal = expected == actual
    if not equal and (origin.bridged(node.inputs, other.inputs)):
        equal = bool(expected & actual)  # the missing or extra node in between is a finding of its own
    shown = (tuple(sorted(expected.elements())), tuple(sorted(actual.elements())))
    return compare(node, other.path, "inputs", shown, equal=equal)


class Origins:
    """The aligned nodes that each value comes from, through nodes without a partner."""

    def __init__(self, alignment: Alignment) -> None:
        self.partner: Mapping[str, str] = alignment.partner
        self.expected = alignment.expected.network
        self.candidate = alignment.candidate.network
        self.expected_of = alignment.expected_of
        self.readers = self.candidate.readers()
        self.expected_readers = self.expected.readers()
        self.expected_origins = _traced(self.expected, {path: path for path in self.partner})
        self.candidate_origins = _traced(self.candidate, self.expected_of)

    def of_expected(self, path: str) -> tuple[str, ...]:
        """Return the aligned expected nodes that an expected value comes from."""
        return self.expected_origins[path]

    def of_candidate(self, path: str) -> tuple[str, ...]:
        """Return the partners of the aligned nodes that a candidate's value comes from."""
        return self.candidate_origins[path]

    def bridged(self, expected: tuple[str, ...], actual: tuple[str, ...]) -> bool:
        """Tell whether an input of either of two aligned nodes has no partner."""
        return any(path not in self.partner for path in expected) or any(
            path not in self.expected_of for path in actual
        )

    def anchor(self, extra: Node) -> str:
        """Return the expected node that an extra node belongs to."""
        before = next(iter(self.of_candidate(extra.path)), None)
        if before is not None and len(self.expected_readers[before]) == 1:
            return before
        reader: str | None = extra.path
        while reader is not None and reader not in self.expected_of:
            reader = next(iter(self.readers[reader]), None)
        return self.expected_of[reader] if reader is not None else before or self.expected.outputs[0].path


def _traced(network: Network, aligned: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the expected nodes that each value comes from, through nodes without a partner."""
    origins: dict[str, tuple[str, ...]] = {}
    for node in network:
        before = (origin for path in node.inputs for origin in origins[path])
        origins[node.path] = (aligned[node.path],) if node.path in aligned else tuple(dict.fromkeys(before))
    return origins

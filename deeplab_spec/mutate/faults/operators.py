"""Every fault of one operator: its record with one attribute wrong.

Mutants are made of these faults, and every run plants one of each attribute in its own observations.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import (
    NO_MARGINS,
    Activation,
    ActivationKind,
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    Dropout,
    GlobalAveragePool,
    Input,
    Margins,
    Multiply,
    Op,
    Padding,
    Pool,
    PoolKind,
    Resize,
    ResizeMode,
)

SLOPE: Final = 0.01
"""Slope below zero of the leaky ReLU that replaces a ReLU."""

USUAL_EPS: Final = (1e-5, 1e-3)
"""The eps of PyTorch's normalisation and the eps of this family: the two are easily mistaken for each other."""

_BOTH: Final = (1, 1)

_ACTIVATIONS: Final = {
    "ReLU6": Activation(kind=ActivationKind.RELU6),
    "leaky ReLU": Activation(kind=ActivationKind.LEAKY_RELU, slope=SLOPE),
    "ELU": Activation(kind=ActivationKind.ELU, slope=1.0),
    "GELU": Activation(kind=ActivationKind.GELU),
    "SiLU": Activation(kind=ActivationKind.SILU),
}

_POOLS: Final = {
    "maximum instead of mean": Pool(kind=PoolKind.MAX, kernel=(2, 2), stride=(2, 2)),
    "mean of a window": Pool(kind=PoolKind.AVERAGE, kernel=(2, 2), stride=(2, 2)),
    "mean of the neighbours": Pool(
        kind=PoolKind.AVERAGE, kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1), count_margin=False
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorFault:
    """An operator with one attribute wrong.

    Attributes:
        kind: What is wrong, in the words of reports.
        attribute: The wrong field of the operator; ``node`` where another operator stands in its place.
        op: The faulty operator.
        planted: Whether every run plants it: one fault of each attribute is.
        mutant: Whether it makes a mutant; a fault that is only planted has a mutant much like it.
    """

    kind: str
    attribute: str
    op: Op
    planted: bool = False
    mutant: bool = True


def operator_faults(op: Op) -> Iterator[OperatorFault]:
    """Return every fault of one operator, in the order of the reports."""
    match op:
        case Conv2d():
            yield from _of_convolution(op)
        case BatchNorm():
            yield from _of_norm(op)
        case Activation():
            yield from _of_activation(op)
        case Dropout():
            yield OperatorFault(kind="dropout 0.5", attribute="probability", op=replace(op, probability=0.5))
            halved = replace(op, probability=op.probability / 2)
            yield OperatorFault(kind="dropout halved", attribute="probability", op=halved)
        case Resize():
            yield from _of_resize(op)
        case GlobalAveragePool():
            for kind, pool in _POOLS.items():
                yield OperatorFault(kind=kind, attribute="node", op=pool)
        case Pool():
            yield from _of_pool(op)
        case Input():
            more = replace(op, channels=op.channels + 1)
            yield OperatorFault(kind="one channel more", attribute="channels", op=more, planted=True, mutant=False)
        case _:
            return


def planted_operator(op: Op, attribute: str) -> Op | None:
    """Return the operator with the fault of one attribute that every run plants; None where no fault shows.

    >>> planted_operator(BatchNorm(channels=1, eps=1e-3, momentum=None), "eps").eps
    1e-05
    """
    found = (fault.op for fault in operator_faults(op) if fault.planted and fault.attribute == attribute)
    return next(found, None)


def planted_node(node: Node, attribute: str) -> tuple[str, Node] | None:
    """Return the node with the planted fault of one attribute, and what is wrong in words; None where no fault shows.

    ``attribute`` is a field of its operator, or ``inputs``: of a sum or a product one operand twice, of a concatenation
    reversed.
    """
    if attribute == "inputs" and isinstance(node.op, Add | Multiply | Concat):
        inputs = node.inputs[::-1] if isinstance(node.op, Concat) else (node.inputs[0], node.inputs[0])
        return f"{', '.join(inputs)} read at {node.path}", replace(node, inputs=inputs)
    op = planted_operator(node.op, attribute)
    if op is None:
        return None
    value = getattr(op, attribute)
    shown = value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value
    return f"{attribute} {shown} at {node.path}", replace(node, op=op)


def _of_convolution(op: Conv2d) -> Iterator[OperatorFault]:
    yield OperatorFault(kind="bias", attribute="bias", op=replace(op, bias=not op.bias), planted=True)
    yield from _of_kernel(op)
    yield from _of_rate(op)
    yield from _of_padding(op)
    other = (2, 2) if op.stride == _BOTH else _BOTH
    yield OperatorFault(kind="stride", attribute="stride", op=replace(op, stride=other), planted=True)
    yield OperatorFault(kind="stride down only", attribute="stride", op=replace(op, stride=(other[0], op.stride[1])))
    if op.depthwise:
        yield OperatorFault(kind="dense", attribute="groups", op=replace(op, groups=1))
        if op.groups % 2 == 0:
            yield OperatorFault(kind="half the groups", attribute="groups", op=replace(op, groups=op.groups // 2))
    elif op.channels_in % 2 == op.channels_out % 2 == 0:
        yield OperatorFault(kind="two groups", attribute="groups", op=replace(op, groups=2 * op.groups))
    more = replace(op, channels_out=op.channels_out + op.groups)
    kind = "one channel more in each group"
    yield OperatorFault(kind=kind, attribute="channels_out", op=more, planted=True, mutant=False)


def _of_pool(op: Pool) -> Iterator[OperatorFault]:
    tall, wide = op.kernel
    if prod(op.kernel) > 1:
        other = PoolKind.AVERAGE if op.kind is PoolKind.MAX else PoolKind.MAX
        swapped = replace(op, kind=other, padding=NO_MARGINS if op.padding == "same" else op.padding)
        yield OperatorFault(kind=f"{other} pooling", attribute="kind", op=swapped, planted=True)
    around = op.padding if op.padding == "same" else _widened(op.padding)
    larger = replace(op, kernel=(tall + 2, wide + 2), padding=around)
    yield OperatorFault(kind="larger window", attribute="kernel", op=larger, planted=True)
    step = (2, 2) if op.stride == _BOTH else _BOTH
    yield OperatorFault(kind="stride", attribute="stride", op=replace(op, stride=step), planted=True)


def _widened(margins: Margins) -> Margins:
    top, bottom, left, right = margins
    return (top + 1, bottom + 1, left + 1, right + 1)


def _of_kernel(op: Conv2d) -> Iterator[OperatorFault]:
    """Change the size of a kernel, with the padding that keeps the map's size."""
    (tall, wide), (down, right) = op.kernel, op.rate
    if not op.pointwise:
        lost = _padded(op, -down * (tall // 2), -right * (wide // 2))
        yield OperatorFault(kind="1x1 kernel", attribute="kernel", op=replace(lost, kernel=_BOTH))
    larger = replace(_padded(op, down, right), kernel=(tall + 2, wide + 2))
    yield OperatorFault(kind=f"{tall + 2}x{wide + 2} kernel", attribute="kernel", op=larger, planted=True)
    if not op.pointwise:
        flat = replace(_padded(op, -down * (tall // 2), 0), kernel=(1, wide))
        yield OperatorFault(kind=f"1x{wide} kernel", attribute="kernel", op=flat)


def _of_rate(op: Conv2d) -> Iterator[OperatorFault]:
    """Change the rate, with the padding that keeps the map's size; some also with the padding as it was."""
    down, right = op.rate
    if op.pointwise:
        changed = replace(op, rate=(down + 1, right + 1))
        yield OperatorFault(kind="rate of a 1x1 kernel", attribute="rate", op=changed)
        return
    rates = {
        "rate doubled": (2 * down, 2 * right),
        "rate one more": (down + 1, right + 1),
        "rate one less": (down - 1, right - 1),
        "rate lost": _BOTH,
        "rate down only": (down + 1, right),
    }
    tried = {op.rate}
    for kind, rate in rates.items():
        if rate in tried or min(rate) < 1:
            continue
        tried.add(rate)
        grown = ((new - old) * (taps // 2) for new, old, taps in zip(rate, op.rate, op.kernel, strict=True))
        fitted = replace(_padded(op, *grown), rate=rate)
        yield OperatorFault(kind=kind, attribute="rate", op=fitted, planted=rate == (down + 1, right + 1))
        if kind in {"rate doubled", "rate lost"}:
            yield OperatorFault(kind=f"{kind}, padding kept", attribute="rate", op=replace(op, rate=rate))


def _of_padding(op: Conv2d) -> Iterator[OperatorFault]:
    if op.padding == "same":
        return
    top, bottom, left, right = op.padding
    added = _padded(op, *_BOTH).padding
    paddings: dict[str, Padding] = {
        "no padding": NO_MARGINS,
        "padding one more": added,
        "padding shifted": (top - 1, bottom + 1, left - 1, right + 1),
        "padding of the rule SAME": "same",
    }
    if op.pointwise:
        paddings = {"padding added": added}
    for kind, padding in paddings.items():
        yield OperatorFault(kind=kind, attribute="padding", op=replace(op, padding=padding))
    above = replace(op, padding=(top + 1, bottom, left, right))
    yield OperatorFault(kind="padding above", attribute="padding", op=above, planted=True, mutant=False)


def _padded(op: Conv2d, down: int, right: int) -> Conv2d:
    """Return a convolution with more padding on both sides, in rows and in columns."""
    if op.padding == "same":
        return op
    top, bottom, left, end = op.padding
    return replace(op, padding=(top + down, bottom + down, left + right, end + right))


def _of_norm(op: BatchNorm) -> Iterator[OperatorFault]:
    for kind, eps in (("eps a tenth", op.eps / 10), ("eps tenfold", op.eps * 10), ("eps nearly none", 1e-12)):
        yield OperatorFault(kind=kind, attribute="eps", op=replace(op, eps=eps))
    usual = replace(op, eps=next(eps for eps in USUAL_EPS if eps != op.eps))
    yield OperatorFault(kind="the other usual eps", attribute="eps", op=usual, planted=True, mutant=False)
    affine = replace(op, affine=not op.affine)
    yield OperatorFault(kind="no scale and offset", attribute="affine", op=affine, planted=True)
    momentum = op.momentum or 0.0
    for kind, value in (("momentum 0.1", 0.1), ("momentum inverted", 1 - momentum), ("momentum doubled", 2 * momentum)):
        if value != momentum:
            yield OperatorFault(kind=kind, attribute="momentum", op=replace(op, momentum=value))


def _of_activation(op: Activation) -> Iterator[OperatorFault]:
    for kind, other in _ACTIVATIONS.items():
        if other != op:
            yield OperatorFault(kind=kind, attribute="kind", op=other, planted=kind == "ReLU6")
    if op.kind is ActivationKind.RELU6:
        yield OperatorFault(kind="ReLU", attribute="kind", op=Activation(), planted=True, mutant=False)
    leaky = _ACTIVATIONS["leaky ReLU"]
    sloped = replace(op, slope=2 * SLOPE) if op == leaky else leaky
    yield OperatorFault(kind="slope", attribute="slope", op=sloped, planted=True, mutant=False)


def _of_resize(op: Resize) -> Iterator[OperatorFault]:
    corners = replace(op, align_corners=not op.align_corners)
    bilinear = op.mode is ResizeMode.BILINEAR
    yield OperatorFault(kind="corners not aligned", attribute="align_corners", op=corners, planted=bilinear)
    for mode in (ResizeMode.NEAREST, ResizeMode.BICUBIC):
        other = replace(op, mode=mode, align_corners=mode is ResizeMode.BICUBIC)
        yield OperatorFault(kind=mode.value, attribute="mode", op=other)

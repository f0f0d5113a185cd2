"""One attribute of one node as a neighbouring network has it: what a planted fault is made of."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, ActivationKind, BatchNorm, Concat, Conv2d, Input, Op, Resize, ResizeMode
from deeplab_spec.mutate.faults.graph_edits import with_inputs, without

SLOPE: Final = 0.01
"""Slope below zero of an activation that is taken for a ReLU."""

USUAL_EPS: Final = (1e-5, 1e-3)
"""The eps of the framework, and that of this family: each is mistaken for the other."""

Readers = Mapping[str, tuple[str, ...]]
Edited = tuple[str, Network]
"""What is wrong, in words, and the network that has it."""


def other_eps(eps: float) -> float:
    """Return the eps that one is mistaken for.

    >>> other_eps(1e-3), other_eps(1e-5)
    (1e-05, 0.001)
    """
    return next(usual for usual in USUAL_EPS if usual != eps)


def other_rate(op: Conv2d) -> Conv2d:
    """Return a convolution of the next rate, with the padding that gives the same map.

    >>> other_rate(Conv2d(channels_in=1, channels_out=1, kernel=(3, 3), padding=(1, 1, 1, 1))).padding
    (2, 2, 2, 2)
    """
    return _grown(replace(op, rate=(op.rate[0] + 1, op.rate[1] + 1)), op)


def other_kernel(op: Conv2d) -> Conv2d:
    """Return a convolution with the next kernel, and the padding that gives the same map."""
    return _grown(replace(op, kernel=(op.kernel[0] + 2, op.kernel[1] + 2)), op)


def _grown(wider: Conv2d, op: Conv2d) -> Conv2d:
    """Give a convolution that reaches further the padding for it."""
    if op.padding == "same":
        return wider
    down, right = (
        (wide * (taps - 1) - rate * (before - 1)) // 2
        for wide, taps, rate, before in zip(wider.rate, wider.kernel, op.rate, op.kernel, strict=True)
    )
    top, bottom, left, end = op.padding
    return replace(wider, padding=(top + down, bottom + down, left + right, end + right))


def edited(graph: Network, readers: Readers, node: Node, attribute: str) -> Edited | None:
    """Return a network in which one attribute of one node is wrong; None where no fault of it shows.

    Args:
        graph: The network.
        readers: The paths that read each of its nodes.
        node: The node.
        attribute: ``node``, ``inputs``, or a field of its record.
    """
    match attribute:
        case "node":
            lone = isinstance(node.op, Conv2d | BatchNorm | Activation)
            return (f"{node.path} left out", without(graph, [node.path])) if lone else None
        case "inputs":
            return _other_inputs(graph, readers, node)
        case _:
            op = other(node.op, attribute)
            return None if op is None else (_words(node, op, attribute), _with(graph, node.path, op))


def other(op: Op, attribute: str) -> Op | None:  # noqa: C901, PLR0912 - one case per attribute
    """Return an operation with one attribute wrong; None where none is made wrong, or it would not show."""
    match op, attribute:
        case BatchNorm(), "eps":
            return replace(op, eps=other_eps(op.eps))
        case BatchNorm(), "affine":
            return replace(op, affine=not op.affine)
        case Activation(), "kind":
            clipped = op.kind is ActivationKind.RELU6
            return replace(op, kind=ActivationKind.RELU if clipped else ActivationKind.RELU6)
        case Activation(), "slope":
            leaky = replace(op, kind=ActivationKind.LEAKY_RELU, slope=SLOPE)
            return leaky if leaky != op else replace(op, slope=2 * SLOPE)
        case Resize(mode=ResizeMode.BILINEAR), "align_corners":
            return replace(op, align_corners=not op.align_corners)
        case Conv2d(), "bias":
            return replace(op, bias=not op.bias)
        case Conv2d(), "rate" if not op.pointwise:
            return other_rate(op)
        case Conv2d(), "kernel":
            return other_kernel(op)
        case Conv2d(), "padding" if op.padding != "same":
            return replace(op, padding=(op.padding[0] + 1, *op.padding[1:]))
        case Conv2d(), "stride":
            return replace(op, stride=(2, 2) if op.stride == (1, 1) else (1, 1))
        case Input(), "channels":
            return replace(op, channels=op.channels + 1)
        case Conv2d(), "channels_out":
            return replace(op, channels_out=op.channels_out + op.groups)
        case _:
            return None


def _words(node: Node, op: Op, attribute: str) -> str:
    value = getattr(op, attribute)
    shown = value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value
    return f"{attribute} {shown} at {node.path}"


def _with(graph: Network, path: str, op: Op) -> Network:
    return graph.with_nodes(replace(node, op=op) if node.path == path else node for node in graph)


def _other_inputs(graph: Network, readers: Readers, node: Node) -> Edited | None:
    """Let a node read another value, so that what it read is still read by others, or is an input."""
    if isinstance(node.op, Concat):
        last = node.inputs[-1]
        return f"{last} joined twice at {node.path}", with_inputs(graph, node.path, *node.inputs, last)
    for place, path in enumerate(node.inputs):
        before = graph[path].inputs[:1] if len(readers[path]) > 1 else ()
        others = [other.path for other in graph.inputs if other.path != path]
        instead = before or tuple(others[:1] if isinstance(graph[path].op, Input) else ())
        if instead:
            inputs = (*node.inputs[:place], *instead, *node.inputs[place + 1 :])
            return f"{instead[0]} read at {node.path}", with_inputs(graph, node.path, *inputs)
    return None

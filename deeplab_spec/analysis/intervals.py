"""Interval analysis: the values of a network that cannot be negative, for any weights."""

from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    Add,
    Concat,
    Dropout,
    GlobalAveragePool,
    Multiply,
    Output,
    Pad,
    Pool,
    Resize,
    ResizeMode,
)

_RECTIFIERS = frozenset({ActivationKind.RELU, ActivationKind.RELU6, ActivationKind.SIGMOID, ActivationKind.HARDSIGMOID})


def never_negative(network: Network) -> frozenset[str]:
    """Return the paths of the values that are never negative.

    Sums, products, means and interpolations of such values are never negative either, except cubic interpolation, which
    overshoots.
    """
    positive: set[str] = set()
    for node in network:
        read = node.inputs[:1] if isinstance(node.op, Resize) else node.inputs  # of the second, a resize reads the size
        if _is_positive(node, all(path in positive for path in read)):
            positive.add(node.path)
    return frozenset(positive)


def _is_positive(node: Node, inputs_positive: bool) -> bool:  # noqa: FBT001 - one fact
    match node.op:
        case Activation(kind=kind) if kind in _RECTIFIERS:
            return True
        case Activation(kind=kind):
            keeps = {ActivationKind.LEAKY_RELU, ActivationKind.ELU, ActivationKind.TANH, ActivationKind.GELU}
            return inputs_positive and kind in keeps
        case Resize(mode=mode):
            return inputs_positive and mode is not ResizeMode.BICUBIC
        case Pad(value=value):
            return inputs_positive and value >= 0
        case Add() | Multiply() | Concat() | GlobalAveragePool() | Pool() | Dropout() | Output():
            return inputs_positive
        case _:
            return False

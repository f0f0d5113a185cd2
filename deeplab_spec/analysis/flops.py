"""Floating-point operations of every operator, forward and backward: the convention ``full``.

Every multiplication, addition, subtraction, division, comparison, root and exponential of the
plain formula counts as one:

* a convolution costs twice its multiply-adds, and one per output element for a bias;
* a normalisation in evaluation scales and shifts (2 per element) by a scale and an offset that it first computes
  from its four vectors (5 per channel); in training it sums, takes differences, squares and sums again (6
  per element) and updates its running statistics (14 per channel);
* a bilinear resize is four products and three sums per output element, a bicubic one sixteen and
  fifteen; a nearest one only moves values, as do concatenation and padding;
* backward, a convolution costs twice its multiply-adds for the gradient of its weights, and again twice for
  that of its input if a parameter stands before it;
* if several operations read one value, its gradients are added up.
"""

from collections.abc import Mapping
from math import prod
from typing import Final

from deeplab_spec.analysis.terms import Mode, Surroundings, Term, Terms, conv_weights
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    Add,
    BatchNorm,
    Conv2d,
    Dropout,
    GlobalAveragePool,
    Multiply,
    Pool,
    PoolKind,
    Resize,
    ResizeMode,
)

# fmt: off
ACTIVATIONS: Final[Mapping[ActivationKind, tuple[int, int]]] = {
    # Operations per element, forward and backward.
    ActivationKind.RELU: (1, 1),         # max(x, 0)
    ActivationKind.RELU6: (2, 2),        # min(max(x, 0), 6)
    ActivationKind.LEAKY_RELU: (2, 2),   # a comparison and a product
    ActivationKind.ELU: (4, 4),          # a comparison, s (exp(x) - 1); s exp(x) dy
    ActivationKind.SIGMOID: (4, 3),      # 1 / (1 + exp(-x)); y (1 - y) dy
    ActivationKind.TANH: (1, 3),         # (1 - y y) dy
    ActivationKind.SILU: (5, 9),         # x sigmoid(x); s (1 + x (1 - s)) dy, s afresh
    ActivationKind.GELU: (5, 11),        # x / 2 (1 + erf(x / sqrt 2)); its density is an exponential more
    ActivationKind.HARDSIGMOID: (4, 3),  # min(max(x + 3, 0), 6) / 6; between -3 and 3, dy / 6
    ActivationKind.HARDSWISH: (5, 5),    # x hardsigmoid(x)
}
RESIZES: Final[Mapping[ResizeMode, tuple[int, int]]] = {
    # Operations per output element, forward and backward.
    ResizeMode.NEAREST: (0, 1),
    ResizeMode.BILINEAR: (7, 8),
    ResizeMode.BICUBIC: (31, 32),
}
# fmt: on


def flops(node: Node, around: Surroundings, mode: Mode) -> Terms:
    """Return the operations of a node: one evaluation, or both passes of a training step."""
    if mode is Mode.FORWARD:
        return forward(node, around, mode)
    return (*forward(node, around, mode), *backward(node, around))


def forward(node: Node, around: Surroundings, mode: Mode) -> Terms:
    """Return the operations of a node in the forward pass of a mode."""
    path = node.path
    match node.op:
        case Conv2d() as op:
            return (Term(2 * conv_weights(op) + (op.channels_out if op.bias else 0), path),)
        case BatchNorm(channels=channels, affine=affine):
            per_element, per_channel = (2, 2) if mode is Mode.FORWARD else (6, 11)
            return (Term(per_element * channels, path), Term((per_channel + 3 * affine) * channels))
        case Activation(kind=kind):
            return (around.elements(path, ACTIVATIONS[kind][0]),)
        case Add():
            return (around.elements(path, len(node.inputs) - 1),)
        case Multiply():
            return (around.elements(path),)
        case GlobalAveragePool():
            return (around.elements(node.inputs[0]),)
        case Pool() as op:
            return (around.elements(path, prod(op.kernel) - (op.kind is PoolKind.MAX)),)
        case Resize(mode=kind):
            return (around.elements(path, RESIZES[kind][0]),)
        case Dropout() if mode is Mode.TRAIN:
            return (around.elements(path, 2),)
        case _:
            return ()


def backward(node: Node, around: Surroundings) -> Terms:
    """Return the operations of the backward pass for a node, and of the sum of its value's gradients."""
    if node.path not in around.learning:
        return ()
    flows = bool(node.inputs) and node.inputs[0] in around.learning
    own = _own_backward(node, around, flows=flows)
    several = around.gradients[node.path] - 1
    return (*own, around.elements(node.path, several)) if several > 0 else own


def _own_backward(node: Node, around: Surroundings, *, flows: bool) -> Terms:
    path = node.path
    match node.op:
        case Conv2d() as op:
            return (Term((2 + 2 * flows) * conv_weights(op) + (op.channels_out if op.bias else 0), path),)
        case BatchNorm(channels=channels, affine=affine):
            # Sums of dy and of dy (x - mean), 4 per element; then a dy + b x + c, 4 more.
            return (Term((4 + 4 * flows) * channels, path), Term((affine + 8 * flows) * channels))
        case Activation(kind=kind):
            return (around.elements(path, ACTIVATIONS[kind][1]),)
        case Multiply():
            # f dy; and the factor's gradient: x dy, added up
            return (around.elements(path, flows + 2 * (node.inputs[1] in around.learning)),)
        case GlobalAveragePool():
            return (around.elements(path),)
        case Pool() as op:
            return (around.elements(path, 1 if op.kind is PoolKind.MAX else prod(op.kernel)),)
        case Resize(mode=kind):
            return (around.elements(path, RESIZES[kind][1]),)
        case Dropout():
            return (around.elements(path),)
        case _:
            return ()

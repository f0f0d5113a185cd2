"""Bytes that every operator reads and writes, and bytes kept for the backward pass.

Numbers are of four bytes, one image is processed at a time, and every operator runs alone: it
reads each value and parameter it needs from memory once per pass over it, and writes its result.
What only names a value again moves nothing: an output, a dropout in evaluation, and backward a
sum, whose gradient is that of each operand, and a concatenation, whose parts are views.

A normalisation passes twice over its input in training (statistics, then result), and twice over
input and gradient backward. What is kept is what PyTorch's operators save: the input of a
convolution, a normalisation and a window, the result of a ReLU. A value kept for several is kept
once, and counts at the node whose value it is.
"""

from typing import Final

from deeplab_spec.analysis.parameters import conv_weights, stored
from deeplab_spec.analysis.terms import Mode, Surroundings, Term, Terms, values_read
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    Dropout,
    Input,
    Output,
    Pool,
    PoolKind,
)

BYTES: Final = 4
"""Of one number in float32."""

INDEX_BYTES: Final = 8
"""Of where a maximum was."""

_KEEPS_RESULT: Final = frozenset({ActivationKind.RELU, ActivationKind.SIGMOID, ActivationKind.TANH})


def moves_nothing(node: Node, mode: Mode) -> bool:
    """Tell whether a node's value is only another name of its input's."""
    return isinstance(node.op, Output) or (isinstance(node.op, Dropout) and mode is Mode.FORWARD)


def bytes_read(node: Node, around: Surroundings, mode: Mode) -> Terms:
    """Return the bytes that a node reads."""
    if isinstance(node.op, Input) or moves_nothing(node, mode):
        return ()
    passes = 2 if isinstance(node.op, BatchNorm) and mode is Mode.TRAIN else 1
    values = [around.elements(path, passes * BYTES) for path in dict.fromkeys(values_read(node))]
    own = (*values, Term(BYTES * _stored(node)))
    return own if mode is Mode.FORWARD else (*own, *_read_backward(node, around), *_added_up(node, around, 2))


def bytes_written(node: Node, around: Surroundings, mode: Mode) -> Terms:
    """Return the bytes that a node writes."""
    if isinstance(node.op, Input) or moves_nothing(node, mode):
        return ()
    own: Terms = (around.elements(node.path, BYTES),)
    if mode is Mode.FORWARD:
        return own
    return (*own, *_extra(node, around), *_written_backward(node, around), *_added_up(node, around, 1))


def bytes_kept(node: Node, around: Surroundings, keepers: frozenset[str]) -> Terms:
    """Return the bytes of a node's value, and of what else it needs, that the backward pass waits for.

    Args:
        node: The node.
        around: Its network.
        keepers: Paths of the values that some operator keeps, from :func:`kept_values`.
    """
    value = (around.elements(node.path, BYTES),) if node.path in keepers else ()
    statistics = (Term(2 * BYTES * node.op.channels),) if isinstance(node.op, BatchNorm) else ()
    masks = _mask(node, around) if node.path in around.learning else ()
    return (*value, *statistics, *masks)


def kept_values(nodes: tuple[Node, ...], around: Surroundings) -> frozenset[str]:
    """Return the paths of the values that some operator keeps for the backward pass."""
    kept: set[str] = set()
    for node in nodes:
        if node.path in around.learning:
            kept.update(keeps(node))
    return frozenset(kept)


def keeps(node: Node) -> tuple[str, ...]:
    """Return the paths of the values that one operator keeps for its own gradient."""
    match node.op:
        case Conv2d() | BatchNorm() | Pool():
            return node.inputs
        case Activation(kind=kind):
            return (node.path,) if kind in _KEEPS_RESULT else node.inputs
        case _:
            return ()


def _stored(node: Node) -> int:
    sizes = stored(node.op)
    return sizes.parameters + sizes.buffers


def _extra(node: Node, around: Surroundings) -> Terms:
    """Return what a training step's forward pass writes beside the result."""
    if isinstance(node.op, BatchNorm):
        return (Term(4 * BYTES * node.op.channels),)  # statistics of the batch, and the running ones
    return _mask(node, around)


def _mask(node: Node, around: Surroundings) -> Terms:
    match node.op:
        case Dropout():
            return (around.elements(node.path, BYTES),)
        case Pool(kind=PoolKind.MAX):
            return (around.elements(node.path, INDEX_BYTES),)
        case _:
            return ()


def _read_backward(node: Node, around: Surroundings) -> Terms:
    if node.path not in around.learning:
        return ()
    flows = node.inputs[0] in around.learning
    gradient = around.elements(node.path, BYTES)
    match node.op:
        case Conv2d(bias=bias):
            weights = Term(BYTES * conv_weights(node.op)) if flows else Term(0)
            return (*(gradient,) * (1 + flows + bias), around.elements(node.inputs[0], BYTES), weights)
        case BatchNorm(channels=channels, affine=affine):
            passes = 1 + flows
            value = around.elements(node.inputs[0], passes * BYTES)
            return (*(gradient,) * passes, value, Term((2 + affine) * BYTES * channels))
        case Add() | Concat():
            return ()
        case Pool():
            return (gradient, *_mask(node, around))  # of the input, which is kept, only the size is needed
        case _:
            return (gradient, *(around.elements(path, BYTES) for path in keeps(node)), *_mask(node, around))


def _written_backward(node: Node, around: Surroundings) -> Terms:
    if node.path not in around.learning or isinstance(node.op, Add | Concat):
        return ()
    inputs = (around.elements(path, BYTES) for path in values_read(node) if path in around.learning)
    return (*inputs, Term(BYTES * stored(node.op).parameters))


def _added_up(node: Node, around: Surroundings, values: int) -> Terms:
    """Return the traffic of adding up the gradients of a value that is read several times."""
    several = around.gradients[node.path] - 1
    if several < 1 or node.path not in around.learning:
        return ()
    return (around.elements(node.path, values * several * BYTES),)

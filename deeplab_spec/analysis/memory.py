"""Bytes that every operator reads and writes, bytes kept for the backward pass, and bytes alive at once.

Numbers have four bytes, one image is processed at a time, and every operator runs alone: it reads each value and
parameter from memory once per pass, and writes its result. Operators that only rename a value move nothing: an
output, a dropout in evaluation, and in the backward pass a sum, whose gradient is that of each operand, and a
concatenation, whose parts are views.

A normalisation passes twice over its input in training (statistics, then result), and twice over input and gradient
in the backward pass. The kept values are those that PyTorch's operators save: the input of a convolution, a
normalisation and a pooling window, the result of a ReLU. A value that several operators keep is kept once, and
counts at its own node.

Memory alive is that of a network run operator by operator, each value freed after its last use. In a training step
kept values stay, and gradients come alive: a sum passes its own on to its operands, and where a value has several
readers a further gradient is alive until it is added.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from deeplab_spec.analysis.terms import Mode, Surroundings, Term, Terms, conv_weights, stored
from deeplab_spec.graph.folding import values_read
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    Dropout,
    Input,
    Multiply,
    Output,
    Pool,
    PoolKind,
)

BYTES: Final = 4
"""Bytes of one number in float32."""

INDEX_BYTES: Final = 8
"""Bytes of the position of a maximum."""

_KEEPS_RESULT: Final = frozenset({ActivationKind.RELU, ActivationKind.SIGMOID, ActivationKind.TANH})


def moves_nothing(node: Node, mode: Mode) -> bool:
    """Tell whether a node's value is only another name of its input."""
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
    """Return the bytes that a node keeps for the backward pass.

    ``keepers`` are the :func:`kept_values`.
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
        case Conv2d() | BatchNorm() | Pool() | Multiply():
            return node.inputs
        case Activation(kind=kind):
            return (node.path,) if kind in _KEEPS_RESULT else node.inputs
        case _:
            return ()


def _stored(node: Node) -> int:
    sizes = stored(node.op)
    return sizes.parameters + sizes.buffers


def _extra(node: Node, around: Surroundings) -> Terms:
    """Return the bytes that the forward pass of a training step writes in addition to the result."""
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
            return (gradient, *_mask(node, around))  # only the size of the kept input is needed
        case _:
            return (gradient, *(around.elements(path, BYTES) for path in keeps(node)), *_mask(node, around))


def _written_backward(node: Node, around: Surroundings) -> Terms:
    if node.path not in around.learning or isinstance(node.op, Add | Concat):
        return ()
    inputs = (around.elements(path, BYTES) for path in values_read(node) if path in around.learning)
    return (*inputs, Term(BYTES * stored(node.op).parameters))


def _added_up(node: Node, around: Surroundings, values: int) -> Terms:
    """Return the traffic of adding up the gradients of a value with several readers."""
    several = around.gradients[node.path] - 1
    if several < 1 or node.path not in around.learning:
        return ()
    return (around.elements(node.path, values * several * BYTES),)


@dataclass(slots=True)
class _Heap:
    """Buffers with a reference count each."""

    sizes: dict[str, int] = field(default_factory=dict)
    names: Counter[str] = field(default_factory=Counter)
    live: int = 0

    def take(self, buffer: str, size: int, names: int = 1) -> None:
        if not self.names[buffer]:
            self.sizes[buffer] = size
            self.live += size
        self.names[buffer] += names

    def release(self, buffer: str) -> None:
        self.names[buffer] -= 1
        if not self.names[buffer]:
            self.live -= self.sizes[buffer]


def live_bytes(
    network: Network, sizes: Mapping[str, int], around: Surroundings, mode: Mode = Mode.FORWARD
) -> dict[str, int]:
    """Return the bytes of values and gradients alive while each node runs, by path.

    Parameters and running statistics do not count; gradients of parameters count as soon as they exist.

    ``sizes`` has the bytes of every value. In training, a node has the maximum of its two passes.
    """
    kept = kept_values(network.nodes, around) if mode is Mode.TRAIN else frozenset()
    heap = _Heap()
    buffers: dict[str, str] = {}
    readers = network.readers()
    alive: dict[str, int] = {}
    last = {path: (paths[-1] if paths else None) for path, paths in readers.items()}
    for node in network:
        path = node.path
        buffers[path] = buffers[node.inputs[0]] if node.inputs and moves_nothing(node, mode) else path
        heap.take(buffers[path], sizes[path], 1 + (path in kept) + isinstance(node.op, Output))
        alive[path] = heap.live
        for value in (path, *dict.fromkeys(node.inputs)):
            if last[value] == path or (value == path and not readers[path]):
                heap.release(buffers[value])
    if mode is Mode.TRAIN:
        for path, size in _backward(network, sizes, around, heap, buffers, kept).items():
            alive[path] = max(alive[path], size)
    return alive


def _backward(
    network: Network,
    sizes: Mapping[str, int],
    around: Surroundings,
    heap: _Heap,
    buffers: Mapping[str, str],
    kept: frozenset[str],
) -> dict[str, int]:
    """Return the bytes alive during each node's backward pass."""
    waiting = Counter(path for node in network if node.path in around.learning for path in set(keeps(node)) & kept)
    gradients: dict[str, str] = {}
    alive: dict[str, int] = {}
    for node in reversed(network.nodes):
        path = node.path
        if path not in around.learning:
            continue
        if isinstance(node.op, Output):
            gradients[path] = f"gradient of {path}"
            heap.take(gradients[path], sizes[path])
        if path not in gradients:
            continue
        gradient = gradients.pop(path)
        peak = heap.live
        for number, value in enumerate(path for path in values_read(node) if path in around.learning):
            passed_on = isinstance(node.op, Add | Concat | Output)
            buffer = gradient if passed_on else f"gradient of {value} from {path} {number}"
            heap.take(buffer, sizes[value])
            peak = max(peak, heap.live)
            if value in gradients:
                peak = max(peak, _add_up(heap, gradients, value, buffer, sizes[value]))
            else:
                gradients[value] = buffer
        heap.take(f"parameters of {path}", BYTES * stored(node.op).parameters)
        alive[path] = max(peak, heap.live)
        heap.release(gradient)
        for value in set(keeps(node)) & kept:
            waiting[value] -= 1
            if not waiting[value]:
                heap.release(buffers[value])
    return alive


def _add_up(heap: _Heap, gradients: dict[str, str], value: str, further: str, size: int) -> int:
    """Add a further gradient to that of a value, in place unless others read it; return the bytes alive."""
    first = gradients[value]
    if heap.names[first] > 1:
        gradients[value] = f"sum of {first} and {further}"
        heap.take(gradients[value], size)
        alive = heap.live
        heap.release(first)
    else:
        alive = heap.live
    heap.release(further)
    return alive

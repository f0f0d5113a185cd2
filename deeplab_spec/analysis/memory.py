"""Memory alive at once: a network run operator by operator, each value freed after its last use.

A value that only names another (an output, a dropout in evaluation) shares its memory. In a
training step the values that the backward pass waits for stay, and gradients come alive: a sum
hands its own on to its operands, the parts of a concatenation are views of the whole, and where a
value is read several times a further gradient is alive until it is added.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from deeplab_spec.analysis.parameters import stored
from deeplab_spec.analysis.terms import Mode, Surroundings, values_read
from deeplab_spec.analysis.traffic import BYTES, keeps, kept_values, moves_nothing
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Add, Concat, Output


@dataclass(slots=True)
class _Heap:
    """Buffers with the number of names that each has."""

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

    Parameters and running statistics are not in it, and gradients of parameters are from when
    they are made.

    Args:
        network: The graph.
        sizes: Bytes of every value, by path.
        around: The network, as formulas see it.
        mode: In training, the larger of a node's two passes.
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

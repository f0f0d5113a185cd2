"""Single faults: the networks that differ from one network in one attribute of one node."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from deeplab_spec.analysis.intervals import never_negative
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    Add,
    BatchNorm,
    Conv2d,
    Resize,
    ResizeMode,
)
from deeplab_spec.mutate.faults.graph_edits import inserted, with_inputs, with_op, without


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One network with one fault.

    Attributes:
        paths: The nodes that may be named for it: one, unless several are exchangeable.
        attribute: What is wrong there.
        kind: Name of the fault.
        network: The network that has it.
    """

    paths: tuple[str, ...]
    attribute: str
    kind: str
    network: Network

    def __str__(self) -> str:
        return f"{self.kind} at {self.paths[0]}"


def faults(graph: Network) -> Iterator[Fault]:
    """Return every single fault of every node that changes the function.

    Some are no networks at all: their shapes do not fit. A sum is not given a ReLU where its value is
    never negative, nor a ReLU changed below zero where nothing is, nor a stride to what sees one pixel.
    """
    positive = never_negative(graph)
    readers = graph.readers()
    for node in graph:
        match node.op:
            case Conv2d() as op:
                yield from _of_conv(graph, node.path, op)
            case BatchNorm() as op:
                yield _changed(graph, node.path, "eps", "eps", eps=op.eps / 10)
                followed = any(isinstance(graph[path].op, Activation) for path in readers[node.path])
                if not followed and node.path not in positive:
                    yield _inserted(graph, node.path)
            case Activation():
                yield from _of_activation(graph, node, readers[node.path], useless=node.inputs[0] in positive)
            case Add() if node.path not in positive:
                yield _inserted_after_sum(graph, node.path, readers[node.path])
            case Resize() as op if op.mode is ResizeMode.BILINEAR and node.path != "aspp.pool.resize":
                yield _changed(graph, node.path, "align_corners", "half pixel", align_corners=not op.align_corners)
                yield _changed(graph, node.path, "mode", "cubic", mode=ResizeMode.BICUBIC)
            case _:
                pass
    yield from _of_wiring(graph, positive)


def _of_conv(graph: Network, path: str, op: Conv2d) -> Iterator[Fault]:
    yield _changed(graph, path, "bias", "bias", bias=not op.bias)
    assert op.padding != "same", "faults start from explicit padding"
    if op.pointwise:
        yield _changed(graph, path, "kernel", "3x3 kernel", kernel=(3, 3), padding=(1, 1, 1, 1))
    else:
        yield _changed(graph, path, "kernel", "1x1 kernel", kernel=(1, 1), padding=(0, 0, 0, 0), rate=op.rate)
        wider = tuple(2 * side for side in op.padding)
        yield _changed(graph, path, "rate", "double rate", rate=(2 * op.rate[0], 2 * op.rate[1]), padding=wider)
        top, bottom, left, right = op.padding
        shifted = (top - 1, bottom + 1, left - 1, right + 1)
        yield _changed(graph, path, "padding", "shifted padding", padding=shifted)
    if path != "aspp.pool.conv":
        stride = (2, 2) if op.stride == (1, 1) else (1, 1)
        yield _changed(graph, path, "stride", "stride", stride=stride)


def _of_activation(graph: Network, node: Node, readers: Sequence[str], *, useless: bool) -> Iterator[Fault]:
    """A ReLU of a value that is never negative is no ReLU: only its clipping shows, as one that is too many."""
    if useless:
        network = with_op(graph, node.path, kind=ActivationKind.RELU6)
        yield Fault(paths=(readers[0],), attribute="node", kind="relu6", network=network)
        return
    yield _changed(graph, node.path, "kind", "relu6", kind=ActivationKind.RELU6)
    yield _changed(graph, node.path, "kind", "leaky", kind=ActivationKind.LEAKY_RELU, slope=0.01)
    network = without(graph, [node.path])
    yield Fault(paths=(node.path,), attribute="node", kind="removed activation", network=network)


def _inserted_after_sum(graph: Network, path: str, readers: Sequence[str]) -> Fault:
    """Before a block that starts with a ReLU, the skip is all that reads another value than it must."""
    others = tuple(reader for reader in readers if not isinstance(graph[reader].op, Activation))
    fault = _inserted(graph, path)
    return replace(fault, paths=others, attribute="inputs") if len(others) < len(readers) else fault


def _of_wiring(graph: Network, positive: frozenset[str]) -> Iterator[Fault]:
    tap = "decoder.low_level.conv"
    read = graph[tap].inputs[0]
    for other in ("backbone.entry_flow.block1.add", "backbone.entry_flow.block2.sepconv1.pointwise.norm"):
        conv = graph[tap].op
        if other != read and other in graph and isinstance(conv, Conv2d):
            network = with_inputs(with_op(graph, tap, channels_in=_channels(graph, other)), tap, other)
            yield Fault(paths=(tap,), attribute="inputs", kind="tap moved", network=network)
    for node in graph:
        activation = f"{node.path.removesuffix('add')}sepconv1.activation"
        if isinstance(node.op, Add) and activation in graph and graph[activation].inputs[0] not in positive:
            reader = node.path.replace(".add", ".skip.conv")
            reader = reader if reader in graph else node.path
            inputs = (node.inputs[0], activation) if reader == node.path else (activation,)
            network = with_inputs(graph, reader, *inputs)
            yield Fault(paths=(reader,), attribute="inputs", kind="skip reads the activation", network=network)


def _channels(graph: Network, path: str) -> int:
    while True:
        match graph[path].op:
            case Conv2d() as op:
                return op.channels_out
            case BatchNorm() as op:
                return op.channels
            case _:
                path = graph[path].inputs[0]


def _changed(graph: Network, path: str, attribute: str, fault: str, /, **fields: object) -> Fault:
    return Fault(paths=(path,), attribute=attribute, kind=fault, network=with_op(graph, path, **fields))


def _inserted(graph: Network, path: str) -> Fault:
    return Fault(paths=(path,), attribute="node", kind="inserted activation", network=inserted(graph, path))


def block_faults(graph: Network, longer: Network, shorter: Network) -> Iterator[Fault]:
    """Return the networks with one middle block more or less; no block can be told from another."""
    for other, kind in ((longer, "one block more"), (shorter, "one block less")):
        paths = tuple(node.path for node in graph if node.path.startswith("backbone.middle_flow."))
        yield Fault(paths=paths, attribute="node", kind=kind, network=other)

"""Moves a crop back to the convolution before it.

An element-wise operation may run before or after a map is cropped. An atrous convolution through
space-to-batch is cropped last, and its normalisation may be before the crop.
"""

from dataclasses import replace

from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.equivalences.graph_builder import CroppedStep, GraphBuilder
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, BatchNorm, Conv2d, Margins, Pad


def move_crops_earlier(captured: Capture) -> Capture:
    """Return the capture with every crop moved from behind element-wise operations into the convolution."""
    while match := next(filter(None, (_match(captured.network, node) for node in captured.network)), None):
        captured = _moved(captured, *match)
    return captured


def _match(network: Network, crop: Node) -> tuple[Node, tuple[str, ...]] | None:
    """Return a crop, and the paths back to its convolution; None for any other node."""
    if not isinstance(crop.op, Pad) or max(crop.op.margins) > 0:
        return None
    readers = network.readers()
    chain: list[str] = []
    node = network[crop.inputs[0]]
    while len(readers[node.path]) == 1 and isinstance(node.op, BatchNorm | Activation):
        chain.append(node.path)
        node = network[node.inputs[0]]
    stride_one = isinstance(node.op, Conv2d) and node.op.stride == (1, 1) and node.op.padding != "same"
    return (crop, (*chain, node.path)) if stride_one and len(readers[node.path]) == 1 else None


def _moved(captured: Capture, crop: Node, chain: tuple[str, ...]) -> Capture:
    builder = GraphBuilder(captured)
    margins: Margins = crop.op.margins if isinstance(crop.op, Pad) else (0, 0, 0, 0)
    for node in captured.network:
        if node.path == crop.path:
            builder.replaced[crop.path] = builder.current(crop.inputs[0])
            continue
        builder.keep(node)
        if node.path not in chain:
            continue
        conv = node.op if isinstance(node.op, Conv2d) else None
        if conv is not None and conv.padding != "same":
            top, bottom, left, right = (own + more for own, more in zip(conv.padding, margins, strict=True))
            kept = builder.nodes[node.path]
            builder.nodes[node.path] = replace(kept, op=replace(conv, padding=(top, bottom, left, right)))
        builder.steps[node.path] = CroppedStep(step=captured.steps[node.path], margins=margins, within=conv is None)
        builder.shapes[node.path] = captured.shapes[crop.path]
    return builder.build()

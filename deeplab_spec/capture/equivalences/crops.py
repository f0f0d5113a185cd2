"""Crops of a map moved back to the convolution that made it.

What treats every pixel by itself may run before or after a map is cropped. An atrous convolution
through space-to-batch is cropped last, and its normalisation may stand before that.
"""

from dataclasses import replace

from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.equivalences.graph_builder import CroppedStep, GraphBuilder
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, BatchNorm, Conv2d, Margins, Pad


def move_crops_earlier(captured: Capture) -> Capture:
    """Return the capture in which a convolution is cropped before what treats every pixel by itself."""
    while found := next(filter(None, (_run(captured.network, node) for node in captured.network)), None):
        captured = _cropped(captured, *found)
    return captured


def _run(network: Network, crop: Node) -> tuple[Node, tuple[str, ...]] | None:
    """Return a crop, and the nodes from the convolution to it, the convolution last; None if there are none."""
    if not isinstance(crop.op, Pad) or max(crop.op.margins) > 0:
        return None
    readers = network.readers()
    run: list[str] = []
    node = network[crop.inputs[0]]
    while len(readers[node.path]) == 1 and isinstance(node.op, BatchNorm | Activation):
        run.append(node.path)
        node = network[node.inputs[0]]
    stride_one = isinstance(node.op, Conv2d) and node.op.stride == (1, 1) and node.op.padding != "same"
    return (crop, (*run, node.path)) if stride_one and len(readers[node.path]) == 1 else None


def _cropped(captured: Capture, crop: Node, run: tuple[str, ...]) -> Capture:
    builder = GraphBuilder(captured)
    margins: Margins = crop.op.margins if isinstance(crop.op, Pad) else (0, 0, 0, 0)
    for node in captured.network:
        if node.path == crop.path:
            builder.instead[crop.path] = builder.now(crop.inputs[0])
            continue
        builder.keep(node)
        if node.path not in run:
            continue
        conv = node.op if isinstance(node.op, Conv2d) else None
        if conv is not None and conv.padding != "same":
            top, bottom, left, right = (own + more for own, more in zip(conv.padding, margins, strict=True))
            kept = builder.nodes[node.path]
            builder.nodes[node.path] = replace(kept, op=replace(conv, padding=(top, bottom, left, right)))
        builder.steps[node.path] = CroppedStep(step=captured.steps[node.path], margins=margins, within=conv is None)
        builder.shapes[node.path] = captured.shapes[crop.path]
    return builder.finished()

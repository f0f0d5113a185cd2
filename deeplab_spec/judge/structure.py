"""Observes a candidate's structure: captures its graph and aligns it with the specification."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from deeplab_spec.align.kinship import stranger
from deeplab_spec.align.match import Alignment, align
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.align.shaped import Shaped
from deeplab_spec.capture.module import capture, shared_parameters
from deeplab_spec.capture.record import Capture
from deeplab_spec.errors import CaptureError
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Conv2d, Output, Pair
from deeplab_spec.judge.interface import images
from deeplab_spec.judge.plan import Plan
from deeplab_spec.judge.results import ask, choose


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A candidate's graph beside the specification's.

    Attributes:
        image: The size of the image that both were taken at.
        capture: The graph, with its outputs named as taps.
        alignment: Both sides in normal form.
        shared: Paths of nodes whose parameters another node has already.
        stranger: Why the candidate is another network; None if it is not.
    """

    image: Pair
    capture: Capture
    alignment: Alignment
    shared: frozenset[str]
    stranger: str | None


def read(module: nn.Module, plan: Plan) -> Reading:
    """Capture a candidate at a size that can tell, and align it.

    Raises:
        CaptureError: If no such size is accepted, or the graph cannot be read.
    """
    image, inputs = _telling_inputs(module, plan)
    captured = _with_taps(capture(module, inputs), plan, image)
    shapes = {path: shape[1:] if len(shape) == 4 else () for path, shape in captured.shapes.items()}  # noqa: PLR2004 - a batch of maps
    candidate = normal_form(Shaped(network=captured.network.live(), shapes=shapes))
    alignment = align(plan.expected(image), candidate)
    return Reading(
        image=image,
        capture=captured,
        alignment=alignment,
        shared=frozenset(shared_parameters(module, captured)),
        stranger=stranger(alignment),
    )


def _telling_inputs(module: nn.Module, plan: Plan) -> tuple[Pair, Sequence[Tensor]]:
    error = ""
    for image in plan.telling:
        sizes = plan.inputs_at(image)
        inputs = images(plan, sizes, 1, torch.float32, plan.request.seed)
        answer = ask(module, inputs, plan.taps(sizes, 1))
        if not answer.error:
            return image, inputs
        error = error or answer.error
    raise CaptureError(f"the candidate refuses every size that can tell: {error}")


def _with_taps(captured: Capture, plan: Plan, image: Pair) -> Capture:
    """Name the outputs as the taps that they are, and drop the others."""
    expected = plan.taps(plan.inputs_at(image), 1)
    outputs = {node.path: captured.shapes[node.path] for node in captured.network.outputs}
    chosen = choose([(_place(captured.network[path]), shape) for path, shape in outputs.items()], expected)
    taps = {place: tap for tap, place in chosen.items()}
    nodes = []
    for node in captured.network:
        if not isinstance(node.op, Output):
            nodes.append(node)
        elif _place(node) in taps:
            nodes.append(replace(node, op=Output(name=taps[_place(node)])))
    if not chosen:
        raise CaptureError("the candidate returns no tensor")
    return replace(captured, network=Network(nodes=tuple(nodes)))


def _place(node: Node) -> str:
    return node.op.name if isinstance(node.op, Output) else ""


def unstrided_blocks(network: Network) -> frozenset[str]:
    """Return the blocks of entry and exit flow whose skip convolution lost its stride."""
    return frozenset(
        node.path.removesuffix(".skip.conv")
        for node in network
        if node.path.endswith(".skip.conv") and isinstance(node.op, Conv2d) and node.op.stride == (1, 1)
    )

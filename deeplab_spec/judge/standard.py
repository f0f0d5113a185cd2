"""Another network as the standard that a candidate is held against."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn

from deeplab_spec.align.any_size import for_any_size
from deeplab_spec.align.names import renamed, specified_paths
from deeplab_spec.align.nearest import nearest
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.align.shaped import Shaped, shaped
from deeplab_spec.capture.images import capture_at, own_size
from deeplab_spec.capture.record import Capture
from deeplab_spec.errors import CaptureError
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Input, Opaque, Pair
from deeplab_spec.judge.plan import SMALL_MULTIPLES, SMALL_SIZES, Limits, Plan, telling_sizes
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.results import ask
from deeplab_spec.judge.structure import in_normal_form
from deeplab_spec.spec.backbone import OUTPUT_STRIDES

READING: Final = ((289, 303), (320, 352))
"""Images with which a network is read: every stride has a map of its own size; the second for those that
refuse what is no multiple."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standard:
    """A network that others are held against, at one output stride.

    Attributes:
        name: What the user named.
        output_stride: The output stride that it was built with, or that its maps show.
        classes: Channels of its result.
        network: Its graph for images of any size, under the specification's paths where it is of the family.
        image: The size that it was read with.
        accepted: Small images that it takes.
        refused: Small images that it refuses.
    """

    name: str
    output_stride: int
    classes: int
    network: Network
    image: Pair
    accepted: tuple[Pair, ...]
    refused: tuple[Pair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstPlan(Plan):
    """A candidate is held against another network.

    Attributes:
        standard: The other network.
    """

    standard: Standard

    def expected(self, image: Pair) -> Shaped:
        """Return the other network in normal form at an image's size."""
        return normal_form(shaped(self.network, self.inputs_at(image)))

    def _small_images(self) -> tuple[Pair, ...]:
        return self.standard.accepted

    def _telling_images(self) -> tuple[Pair, ...]:
        return telling_sizes(self.network, self.output_stride)


def against(request: Request, standard: Standard, limits: Limits) -> AgainstPlan:
    """Plan a judgement against another network."""
    return AgainstPlan(
        request=request,
        output_stride=standard.output_stride,
        network=standard.network,
        limits=limits,
        standard=standard,
    )


def read_whole(module: nn.Module) -> tuple[Capture, Pair]:
    """Read the graph of a network of images at a size that tells its strides apart.

    Raises:
        CaptureError: If it takes no such size, or cannot be read.
    """
    size = own_size(module)
    refused: CaptureError | None = None
    for image in (size,) if size else READING:
        try:
            return capture_at(module, image), image
        except CaptureError as error:
            refused = refused or error
    raise refused or CaptureError("it takes no image")


def standard_of(module: nn.Module, name: str, output_stride: int | None = None) -> Standard:
    """Read a network as a standard.

    Args:
        module: The network, in evaluation.
        name: What the user named.
        output_stride: What it was built with; None for what its maps show.

    Raises:
        CaptureError: If it cannot be read, returns no tensor, or holds operations that cannot be executed elsewhere.
    """
    captured, image = read_whole(module)
    found = in_normal_form(captured)
    for node in found.network:
        if isinstance(node.op, Opaque):
            raise CaptureError(f"it holds an operation that is not known, {node.op.target}, at {node.path}")
    stride = output_stride or output_stride_of(found)
    paths = _paths(captured, found, stride, image)
    fixed = own_size(module)
    accepted = _accepted(module, captured, (fixed,) if fixed else dict.fromkeys((*SMALL_SIZES, *SMALL_MULTIPLES)))
    return Standard(
        name=name,
        output_stride=stride,
        classes=classes_of(found),
        network=renamed(for_any_size(found), paths),
        image=image,
        accepted=tuple(size for size, answered in accepted if answered),
        refused=tuple(size for size, answered in accepted if not answered),
    )


def output_stride_of(found: Shaped) -> int:
    """Return the output stride that the smallest map of a network shows.

    Raises:
        CaptureError: If no value is a map.
    """
    image = found.map_size(found.network.inputs[0].path)
    sizes = [size for node in found.network if (size := found.map_size(node.path)) is not None and size != (1, 1)]
    if image is None or not sizes:
        raise CaptureError("it takes no image")
    ratio = image[0] / min(height for height, _ in sizes)
    return min(OUTPUT_STRIDES, key=lambda stride: max(stride / ratio, ratio / stride))


def classes_of(found: Shaped) -> int:
    """Return the channels of a network's first result."""
    return found.channels(found.network.outputs[0].path) if found.network.outputs else 0


def _paths(captured: Capture, found: Shaped, output_stride: int, image: Pair) -> dict[str, str]:
    near = nearest(found, output_stride, classes_of(found), image)
    if near is None:
        return {node.path: node.path for node in captured.network}
    return specified_paths(near[0], captured.network)


def _accepted(module: nn.Module, captured: Capture, sizes: Iterable[Pair]) -> list[tuple[Pair, bool]]:
    first = captured.network.inputs[0]
    channels = first.op.channels if isinstance(first.op, Input) else 0
    batch = captured.shapes[first.path][0]
    return [(size, not ask(module, [torch.zeros(batch, channels, *size)], ()).error) for size in sizes]

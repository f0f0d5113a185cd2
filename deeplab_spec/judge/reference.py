"""Another network as what a candidate is held against: it is locked first, and a lock is what is compared."""

from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import nn

from deeplab_spec.align.identify import Identity
from deeplab_spec.align.lock import Lock, NearestNetwork, Response, Result, canonical_lock
from deeplab_spec.align.match import align
from deeplab_spec.align.network_at_size import Shaped, for_any_size, shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.align.published import known, like
from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.fx.module import capture_at, fixed_size, shared_parameters
from deeplab_spec.errors import CaptureError
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import BatchNorm, Input, Opaque, Output, Pair
from deeplab_spec.judge.outputs import ask
from deeplab_spec.judge.plan import SMALL_MULTIPLES, SMALL_SIZES, Limits, Plan, tap_of, telling_sizes
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.structure.nearest_form import in_normal_form
from deeplab_spec.spec.backbones.xception import OUTPUT_STRIDES
from deeplab_spec.spec.choices import differences as decided_otherwise
from deeplab_spec.spec.variants import variant

READING: Final = ((289, 303), (320, 352))
"""Images with which a network is read: every stride has a map of its own size; the second for those that
refuse what is no multiple."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstPlan(Plan):
    """A candidate is held against another network, as it was locked.

    Attributes:
        lock: The other network.
    """

    lock: Lock

    def expected(self, image: Pair) -> Shaped:
        """Return the other network in normal form at an image's size."""
        return normal_form(shaped(self.network, self.inputs_at(image)))

    def _small_images(self) -> tuple[Pair, ...]:
        accepted = (response.inputs[0][-2:] for response in self.lock.responses if response.results)
        return tuple((height, width) for height, width in accepted) or (self.lock.image,)

    def _telling_images(self) -> tuple[Pair, ...]:
        return telling_sizes(self.network, self.output_stride)


def against(request: Request, lock: Lock, limits: Limits) -> AgainstPlan:
    """Plan a judgement against another network."""
    return AgainstPlan(
        request=request,
        output_stride=lock.output_stride,
        network=for_any_size(lock.normal),
        limits=limits,
        lock=lock,
    )


def read_whole(module: nn.Module) -> tuple[Capture, Pair]:
    """Read the graph of a network of images at a size that tells its strides apart.

    Raises:
        CaptureError: If it takes no such size, or cannot be read.
    """
    size = fixed_size(module)
    refused: CaptureError | None = None
    for image in (size,) if size else READING:
        try:
            return _with_logits(capture_at(module, image)), image
        except CaptureError as error:
            refused = refused or error
    raise refused or CaptureError("it takes no image")


def _nearest(identity: Identity) -> NearestNetwork:
    return NearestNetwork(
        variant=identity.start,
        choices=decided_otherwise(variant(identity.start).choices, identity.choices),
        unexplained=sum(map(len, identity.unexplained)),
    )


def _with_logits(captured: Capture) -> Capture:
    """Call the only result of a network what the specification calls it."""
    if len(captured.network.outputs) != 1:
        return captured
    nodes = (
        replace(node, op=Output(name="logits")) if isinstance(node.op, Output) else node for node in captured.network
    )
    return replace(captured, network=captured.network.with_nodes(nodes))


def locked(module: nn.Module, name: str, output_stride: int | None = None) -> Lock:
    """Lock a network: everything that others can be held to.

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
    stride, classes = output_stride or output_stride_of(found), classes_of(found)
    identity, other = known([found], [stride], classes, image)
    near = None if other else align(like(found, identity.choices, stride, classes, image), found)
    lock = Lock(
        target=name,
        output_stride=stride,
        classes=classes,
        image=image,
        normal=_with_momenta(found, captured),
        nearest=None if other else _nearest(identity),
        responses=_responses(module, captured),
    )
    return canonical_lock(lock, near, tuple(shared_parameters(module, captured)))


def _with_momenta(found: Shaped, captured: Capture) -> Shaped:
    """Give the normalisations of a normal form the momentum that they have in training."""

    def stated(node: Node) -> Node:
        mine = captured.network[node.path].op if node.path in captured.network else None
        if isinstance(node.op, BatchNorm) and isinstance(mine, BatchNorm):
            return replace(node, op=replace(node.op, momentum=mine.momentum))
        return node

    return found.with_network(found.network.with_nodes(map(stated, found.network)))


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


def _responses(module: nn.Module, captured: Capture) -> tuple[Response, ...]:
    """Record which small images a network takes, and which it refuses."""
    first = captured.network.inputs[0]
    channels = first.op.channels if isinstance(first.op, Input) else 0
    batch = captured.shapes[first.path][0]
    fixed = fixed_size(module)
    taps = [(tap_of(node), captured.shapes[node.path]) for node in captured.network.outputs]
    answers = []
    for size in (fixed,) if fixed else dict.fromkeys((*SMALL_SIZES, *SMALL_MULTIPLES)):
        shape = (batch, channels, *size)
        results = ask(module, [torch.zeros(shape)], taps).results
        found = tuple(
            Result(tap=tap, shape=tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))
            for tap, tensor in results.items()
        )
        answers.append(Response(inputs=(shape,), dtype="float32", results=found))
    return tuple(answers)

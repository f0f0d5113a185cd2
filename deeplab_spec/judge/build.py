"""Builds the candidate and the other network that a request names, and locks networks."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from torch import nn

from deeplab_spec.align import lock_file as lock_text
from deeplab_spec.align.identify import Identity
from deeplab_spec.align.lock import Lock, NearestNetwork, Response, Result, canonical_lock
from deeplab_spec.align.match import align
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.published import nearest_published, network_like
from deeplab_spec.capture.candidate.start import HERE, LOCK, ProcessSettings
from deeplab_spec.capture.capture import Candidate, Capture
from deeplab_spec.capture.equivalences.graph_builder import merge_recomputed
from deeplab_spec.capture.fx.module import capture_at, check_runnable, fixed_size, shared_parameters
from deeplab_spec.capture.target import Target, connect, is_file, parse_target
from deeplab_spec.errors import CaptureError, SpecError, TargetError
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import BatchNorm, Input, Opaque, Output, Pair
from deeplab_spec.judge.outputs import call_candidate
from deeplab_spec.judge.plan import SMALL_MULTIPLES, SMALL_SIZES, tap_of
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.structure.nearest_form import in_normal_form
from deeplab_spec.spec.choices import overrides_between
from deeplab_spec.spec.layer_choices import OUTPUT_STRIDES
from deeplab_spec.spec.variants import REFERENCE, variant

Built = Callable[[int, int], Candidate]
ReferenceReader = Callable[[int], Lock]


def is_lock(name: str) -> bool:
    """Tell whether a target is a lock file."""
    return Path(name).suffix == LOCK


def target_of(request: Request) -> Target:
    """Return the target of a request."""
    name = request.target
    reference = name.partition(":")[0] == REFERENCE
    if reference and ":" not in name and request.variant:
        name = f"{REFERENCE}:{request.variant}"
    return Target(
        name=name,
        arguments={} if reference else request.arguments,
        part=request.part,
        choices=request.target_choices if reference else {},
    )


def settled(request: Request, module: Candidate) -> Request:
    """Fill in the output stride and the classes of a file, read from its graph.

    Raises:
        TargetError: If its graph cannot be read.
    """
    known = request.output_strides and request.classes is not None
    if known or request.part:
        return request
    try:
        found = in_normal_form(read_whole(module)[0])
        stride, classes = output_stride_of(found), some_classes_of(found)
    except CaptureError as error:
        raise TargetError(module.name, f"cannot be read: {error}") from error
    return replace(
        request,
        output_strides=request.output_strides or (stride,),
        classes=classes if request.classes is None else request.classes,
    )


def candidate(
    request: Request, process: ProcessSettings = HERE, source: nn.Module | Callable[..., object] | None = None
) -> tuple[Request, Built]:
    """Return the request, with a file's own output stride and classes, and a function that builds the candidate.

    Raises:
        TargetError: If a file cannot be read.
    """
    target = replace(target_of(request), source=source, process=process)

    def built(output_stride: int, seed: int) -> Candidate:
        return connect(target, output_stride, request.class_count, seed)

    if source is not None or not is_file(target.name):
        return request, built
    ready = [built(request.strides[0], request.seed)]
    return settled(request, ready[0]), lambda stride, seed: ready.pop() if ready else built(stride, seed)


def reference_reader(request: Request, process: ProcessSettings = HERE) -> tuple[Request, ReferenceReader | None]:
    """Return the request, with the other network's own output stride and classes, and its reader; None without one.

    Raises:
        TargetError: If it cannot be built or read.
    """
    if request.against is None:
        return request, None
    if is_lock(request.against):
        return _with(request, lock_text.load(Path(request.against)))
    target = parse_target(request.against, request.against_arguments, process)
    stated = is_file(target.name)

    def read(output_stride: int) -> Lock:
        with closing(connect(target, output_stride, request.class_count)) as module:
            try:
                return locked(module, target.name, None if stated else output_stride)
            except CaptureError as error:
                raise TargetError(target.name, f"cannot be judged against: {error}") from error

    first = read(request.strides[0])
    if stated:
        return _with(request, first)
    return _of_family(request, first), lambda stride: first if stride == request.strides[0] else read(stride)


def _of_family(request: Request, lock: Lock) -> Request:
    """Return a request with the family of a lock's nearest published network."""
    return replace(request, family=variant(lock.nearest.variant).family.family) if lock.nearest else request


def _with(request: Request, lock: Lock) -> tuple[Request, ReferenceReader]:
    """Return a request at the output stride and with the classes of a lock."""
    stated = request.output_strides
    if stated and stated != (lock.output_stride,):
        rule = f"must be {lock.output_stride}, the output stride of {request.against}"
        raise SpecError("output_stride", rule, ", ".join(map(str, stated)))
    stated_by_it = replace(request, output_strides=(lock.output_stride,), classes=lock.classes)
    return _of_family(stated_by_it, lock), lambda _stride: lock


READING: Final = ((289, 303), (320, 352))
"""Image sizes at which a network is captured: every stride has a map of a different size; the second is for networks
that accept multiples only."""


def read_whole(module: Candidate) -> tuple[Capture, Pair]:
    """Capture a network at an image size that shows its strides.

    Raises:
        CaptureError: If it accepts no such size, or its graph cannot be read.
    """
    size = fixed_size(module)
    refused: CaptureError | None = None
    for image in (size,) if size else READING:
        try:
            return _with_logits(capture_at(module, image)), image
        except CaptureError as error:
            refused = refused or error
    raise refused or CaptureError("it accepts no image")


def _nearest(identity: Identity) -> NearestNetwork:
    return NearestNetwork(
        variant=identity.start,
        choices=overrides_between(variant(identity.start).choices, identity.choices),
        unexplained=sum(map(len, identity.unexplained)),
    )


def _with_logits(captured: Capture) -> Capture:
    """Name the only output of a network as in the specification."""
    if len(captured.network.outputs) != 1:
        return captured
    nodes = (
        replace(node, op=Output(name="logits")) if isinstance(node.op, Output) else node for node in captured.network
    )
    return replace(captured, network=captured.network.with_nodes(nodes))


def locked(module: Candidate, name: str, output_stride: int | None = None) -> Lock:
    """Lock a network: record everything that others can be judged against.

    Args:
        module: The network, in evaluation.
        name: The target, as the user named it.
        output_stride: The output stride that it was built with; None to read it from its maps.

    Raises:
        CaptureError: If it cannot be read, returns no tensor, or contains operations that cannot be executed elsewhere.
    """
    check_runnable(module)
    whole, image = read_whole(module)
    captured = merge_recomputed(whole)
    found = in_normal_form(captured)
    for node in found.network:
        if isinstance(node.op, Opaque):
            raise CaptureError(f"it contains an unknown operation, {node.op.target}, at {node.path}")
    stride, classes = output_stride or output_stride_of(found), classes_of(found)
    identity, other = nearest_published([found], [stride], classes, image)
    near = None if other else align(network_like(found, identity.choices, stride, classes, image), found)
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
    """Return a normal form whose normalisations have the captured momentum."""

    def stated(node: Node) -> Node:
        mine = captured.network[node.path].op if node.path in captured.network else None
        if isinstance(node.op, BatchNorm) and isinstance(mine, BatchNorm):
            return replace(node, op=replace(node.op, momentum=_after(mine.momentum, found.times.get(node.path, 1))))
        return node

    return found.with_network(found.network.with_nodes(map(stated, found.network)))


def _after(momentum: float | None, times: int) -> float | None:
    """Return the momentum of a normalisation that runs several times."""
    return momentum if momentum is None or times == 1 else 1 - (1 - momentum) ** times


def output_stride_of(found: Shaped) -> int:
    """Return the output stride that the smallest map of a network shows.

    Raises:
        CaptureError: If no value is a map.
    """
    image = found.map_size(found.network.inputs[0].path)
    sizes = [size for node in found.network if (size := found.map_size(node.path)) not in (None, (1, 1)) and min(size)]
    if image is None or not sizes:
        raise CaptureError("it accepts no image")
    ratio = image[0] / min(height for height, _ in sizes)
    return min(OUTPUT_STRIDES, key=lambda stride: max(stride / ratio, ratio / stride))


def classes_of(found: Shaped) -> int:
    """Return the channels of a network's first output."""
    return found.channels(found.network.outputs[0].path) if found.network.outputs else 0


def some_classes_of(found: Shaped) -> int:
    """Return the channels of a network's first output.

    Raises:
        CaptureError: If it has none.
    """
    classes = classes_of(found)
    if not classes:
        raise CaptureError("its first result is no map")
    return classes


def _responses(module: Candidate, captured: Capture) -> tuple[Response, ...]:
    """Record which small images a network takes, and which it refuses."""
    first = captured.network.inputs[0]
    channels = first.op.channels if isinstance(first.op, Input) else 0
    batch = captured.shapes[first.path][0]
    fixed = fixed_size(module)
    taps = [(tap_of(node), captured.shapes[node.path]) for node in captured.network.outputs]
    answers = []
    for size in (fixed,) if fixed else dict.fromkeys((*SMALL_SIZES, *SMALL_MULTIPLES)):
        shape = (batch, channels, *size)
        results = call_candidate(module, [torch.zeros(shape)], taps).results
        found = tuple(
            Result(tap=tap, shape=tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))
            for tap, tensor in results.items()
        )
        answers.append(Response(inputs=(shape,), dtype="float32", results=found))
    return tuple(answers)

"""Identifies a network: the nearest published network, and the choices that differ from it."""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from deeplab_spec.align.identify import Identity
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.align.parts import find_head
from deeplab_spec.align.published import nearest_head, nearest_published
from deeplab_spec.capture.capture import Candidate, Capture
from deeplab_spec.capture.cut import cut
from deeplab_spec.capture.equivalences.graph_builder import merge_recomputed
from deeplab_spec.capture.fx.module import capture_target, map_shapes
from deeplab_spec.capture.target import Target, connect, is_file
from deeplab_spec.errors import CaptureError, SpecError, TargetError
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Output, Pair
from deeplab_spec.identify.document import IdentifyDocument, NearestHead
from deeplab_spec.judge.build import output_stride_of, read_whole, some_classes_of
from deeplab_spec.judge.certificate import Nearest
from deeplab_spec.judge.finding import Finding, as_json
from deeplab_spec.judge.outputs import choose as choose_results
from deeplab_spec.judge.structure.nearest_form import in_normal_form
from deeplab_spec.spec.choices import overrides_between, plain
from deeplab_spec.spec.head import check_classes
from deeplab_spec.spec.layer_choices import OUTPUT_STRIDES
from deeplab_spec.spec.network import DEFAULT_CLASSES, DEFAULT_OUTPUT_STRIDE
from deeplab_spec.spec.variants import variant

SIZES: Final = ((289, 300), (288, 320), (513, 513), (512, 512))
"""Images that a network is captured with; the first that it accepts is used.

One side is odd and the other even, so that padding rules differ, and the feature maps have several pixels at
every output stride."""


def identify(
    target: Target, output_strides: Sequence[int] = (), classes: int | None = None, sizes: Sequence[Pair] = SIZES
) -> IdentifyDocument:
    """Find the published network and the choices that a target implements.

    Output of the target goes to stderr.

    Args:
        target: The target that the user named.
        output_strides: Passed to the builder one by one; choices must fit all. By default 16, or that of a file.
        classes: Passed to the builder; by default 21, or that of a file.
        sizes: Images to capture it with; the first that it accepts at every output stride is used.

    Raises:
        TargetError: If it cannot be imported, built, exported or run at a size.
        SpecError: If no published network has these output strides.
    """
    output_strides, classes, sizes = _with_defaults(target, output_strides, classes, sizes)
    for output_stride in output_strides:
        if output_stride not in OUTPUT_STRIDES:
            raise SpecError("output_stride", f"must be one of {', '.join(map(str, OUTPUT_STRIDES))}", output_stride)
    check_classes(classes)
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as opened:
        modules = [
            opened.enter_context(contextlib.closing(connect(target, output_stride, classes)))
            for output_stride in output_strides
        ]
        size, captures = _captures(modules, sizes, target.name)
    candidates = [_candidate(merge_recomputed(captured), classes, size) for captured in captures]
    identity, other = nearest_published(candidates, output_strides, classes, size)
    head = _head(captures, candidates, output_strides, classes) if other else None
    return IdentifyDocument(
        target=target.name,
        output_strides=output_strides,
        size=size,
        classes=classes,
        arguments=dict(target.arguments),
        nearest=None if other else _nearest(identity),
        distance=identity.distance,
        unexplained=() if other else tuple(_findings(identity, output_strides)),
        another_network=other,
        head=head,
    )


def _head(
    captures: Sequence[Capture], candidates: Sequence[Shaped], output_strides: Sequence[int], classes: int
) -> NearestHead | None:
    """Find the head of a different architecture, and the network whose head it is nearest to; None without one."""
    found = [find_head(candidate.network) for candidate in candidates]
    heads = [head for head in found if head]
    if len(heads) < len(found):
        return None
    parts = [
        _normal(cut(merge_recomputed(captured), head.inputs("head"), head.outputs("head")))
        for captured, head in zip(captures, heads, strict=True)
    ]
    identity = nearest_head(parts, output_strides, classes)
    if identity is None:
        return None
    return NearestHead(
        features=heads[0].features,
        taps=heads[0].taps,
        nearest=_nearest(identity),
        distance=identity.distance,
        unexplained=tuple(_findings(identity, output_strides)),
    )


def _normal(captured: Capture) -> Shaped:
    return normal_form(Shaped(network=captured.network.live(), shapes=map_shapes(captured)))


def _with_defaults(
    target: Target, output_strides: Sequence[int], classes: int | None, sizes: Sequence[Pair]
) -> tuple[tuple[int, ...], int, Sequence[Pair]]:
    """Fill in missing settings: the defaults, or those of a file."""
    strides = tuple(dict.fromkeys(output_strides))
    if not is_file(target.name):
        return strides or (DEFAULT_OUTPUT_STRIDE,), DEFAULT_CLASSES if classes is None else classes, sizes
    try:
        with contextlib.closing(connect(target, DEFAULT_OUTPUT_STRIDE, DEFAULT_CLASSES)) as module:
            captured, image = read_whole(module)
        normal = in_normal_form(captured)
        strides = strides or (output_stride_of(normal),)
        classes = some_classes_of(normal) if classes is None else classes
    except CaptureError as error:
        raise TargetError(target.name, f"cannot be read: {error}") from error
    return strides, classes, (image,)


def _captures(modules: Sequence[Candidate], sizes: Sequence[Pair], name: str) -> tuple[Pair, list[Capture]]:
    """Capture every module at the first size that all of them accept."""
    first: TargetError | None = None
    for size in sizes:
        try:
            return size, [capture_target(module, size, name) for module in modules]
        except TargetError as error:
            first = first or error
    raise first or SpecError("sizes", "must not be empty", sizes)


def _candidate(captured: Capture, classes: int, size: Pair) -> Shaped:
    """Return the normal form of a capture; of several outputs, only the logits are kept."""
    outputs = {node.path: captured.shapes[node.path] for node in captured.network.outputs}
    paths = captured.network.results
    results = [(name, outputs[path]) for name, path in paths.items()]
    logits = paths.get(choose_results(results, [("logits", (1, classes, *size))]).get("logits", ""))
    nodes = [
        replace(node, op=Output(name="logits")) if node.path == logits else node
        for node in captured.network
        if node.path == logits or not isinstance(node.op, Output)
    ]
    return _normal(replace(captured, network=Network(nodes=tuple(nodes))))


def _nearest(identity: Identity) -> Nearest:
    changed = overrides_between(variant(identity.start).choices, identity.choices)
    return Nearest(variant=identity.start, choices={name: plain(value) for name, value in changed.items()})


def _findings(identity: Identity, output_strides: Sequence[int]) -> list[Finding]:
    return [
        Finding(
            path=aspect.path,
            candidate_path=aspect.candidate_path,
            attribute=aspect.attribute,
            choice=None,
            expected=as_json(aspect.expected),
            actual=as_json(aspect.actual),
            hint="",
            output_stride=output_stride,
        )
        for output_stride, aspects in zip(output_strides, identity.unexplained, strict=True)
        for aspect in aspects
    ]

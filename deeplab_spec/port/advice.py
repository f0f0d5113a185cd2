"""What would make a port work: the command with which the reference is the same architecture as the other network."""

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.align.published import nearest_published
from deeplab_spec.capture.fx.module import map_shapes
from deeplab_spec.capture.target import Target
from deeplab_spec.errors import SpecError
from deeplab_spec.graph.ops import Output
from deeplab_spec.port.sides import Side
from deeplab_spec.spec.choices import overrides_between, written
from deeplab_spec.spec.variants import REFERENCE, variant

if TYPE_CHECKING:
    from deeplab_spec.port.service import Moved, PortRequest


def advice(request: "PortRequest", moved: "Moved") -> str:
    """Return the command that would move the weights; empty if neither side is a reference, or no choices fit."""
    for side, target, other in (("dest", request.dest, moved.pair.source), ("source", request.source, moved.pair.dest)):
        if _is_reference(target) and not target.part and moved.verdict != "moved":
            found = _choices(other, request.output_stride, request.classes)
            return _command(request, side, *found) if found else ""
    return ""


def _is_reference(target: Target) -> bool:
    return target.source is None and target.name.partition(":")[0] == REFERENCE


def _command(request: "PortRequest", changed: str, start: str, changes: list[str]) -> str:
    """Return the command of a request in which one side is a variant with other choices."""
    names, options = [], []
    for side, target in (("source", request.source), ("dest", request.dest)):
        own = [f"{name}={written(value)}" for name, value in target.choices.items()]
        names.append(f"{REFERENCE}:{start}" if side == changed else target.name)
        for choice in changes if side == changed else own:
            options += [f"--{side}-choose", choice]
        if not _is_reference(target):
            for name, text in target.arguments.items():
                options += [f"--{side}-arg", f"{name}={text}"]
    if request.weights:
        options += ["--weights", str(request.weights)]
    settings = ["--output-stride", str(request.output_stride), "--classes", str(request.classes)]
    output = str(request.output or "FILE.safetensors")
    return shlex.join(["deeplab-spec", "port", *names, *settings, *options, "-o", output])


def _choices(side: Side, output_stride: int, classes: int) -> tuple[str, list[str]] | None:
    """Return the variant and the overrides that describe a network completely; None if none do."""
    outputs = side.captured.network.outputs
    if len(outputs) != 1:
        return None
    network = side.captured.network.with_nodes(
        replace(node, op=Output(name="logits")) if isinstance(node.op, Output) else node
        for node in side.captured.network
    )
    form = normal_form(Shaped(network=network, shapes=map_shapes(side.captured)))
    try:
        identity, other = nearest_published([form], [output_stride], classes, side.image)
    except SpecError:
        return None
    if other or identity.distance:
        return None
    changes = overrides_between(variant(identity.start).choices, identity.choices)
    return identity.start, [f"{name}={written(value)}" for name, value in changes.items()]

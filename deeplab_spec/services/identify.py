"""Identifies somebody's network: the nearest published one, and the choices on top of it."""

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from torch import nn

from deeplab_spec.align.identify import Identity
from deeplab_spec.align.identify import identify as search
from deeplab_spec.align.kinship import stranger
from deeplab_spec.align.match import align
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.align.readings import read_width
from deeplab_spec.align.search import Library
from deeplab_spec.align.shaped import Shaped, shaped
from deeplab_spec.capture.module import Capture
from deeplab_spec.capture.target import REFERENCE, Target, load
from deeplab_spec.checks.certificate import FindingRecord, Nearest, as_json
from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Output, Pair
from deeplab_spec.judge.results import choose as choose_results
from deeplab_spec.render.identify import IdentifyDocument
from deeplab_spec.services.captured import capture_at
from deeplab_spec.spec.choices import Choices, choose, differences, plain, read_overrides
from deeplab_spec.spec.network import DEFAULT_CLASSES
from deeplab_spec.spec.network import network as specification
from deeplab_spec.spec.variants import VARIANTS, Variant, variant

SIZES: Final = ((289, 300), (288, 320), (513, 513), (512, 512))
"""Images that a network is read with, the first that it accepts: odd one way and even the other, so
that the rules of padding differ, and large enough for maps of several pixels at every output stride."""


def identify(
    target: Target,
    output_strides: Sequence[int] = (16,),
    classes: int = DEFAULT_CLASSES,
    sizes: Sequence[Pair] = SIZES,
) -> IdentifyDocument:
    """Search the published network and the choices that a target is.

    What the target prints goes to stderr.

    Args:
        target: What the user named.
        output_strides: Passed to what builds it, one after the other; choices must hold at each.
        classes: Passed to what builds it.
        sizes: Images to read it with; the first that it accepts at every output stride is taken.

    Raises:
        TargetError: If it cannot be imported, built, exported or run at a size.
        SpecError: If no published network has these output strides.
    """
    output_strides = tuple(dict.fromkeys(output_strides))
    variants = [entry for entry in VARIANTS if set(output_strides) <= set(entry.output_strides)]
    if not variants or not output_strides:
        raise SpecError("output_stride", "must be 8, 16 or 32", output_strides)
    if classes < 1:
        raise SpecError("classes", "must be 1 or more", classes)
    with contextlib.redirect_stdout(sys.stderr), _without_traces():
        modules = [load(target, output_stride, classes).eval() for output_stride in output_strides]
        size, captures = _captures(modules, sizes, target.name)
    candidates = [_candidate(captured, classes, size) for captured in captures]
    libraries = [library(output_stride, classes, size) for output_stride in output_strides]
    found = _search(candidates, libraries, variants)
    other = _stranger(candidates[0], libraries[0], found) if found.distance else None
    return IdentifyDocument(
        target=target.name,
        output_strides=output_strides,
        size=size,
        classes=classes,
        arguments=dict(target.arguments),
        nearest=None if other else _nearest(found, variants),
        distance=found.distance,
        unexplained=() if other else tuple(_findings(found, output_strides)),
        another_network=other,
    )


def wanted(name: str, arguments: Mapping[str, str]) -> Target:
    """Return the target that a user names; the arguments of a reference are its choices.

    Raises:
        SpecError: If an argument of a reference is no choice.
    """
    kind, _, published = name.partition(":")
    if kind != REFERENCE:
        return Target(name=name, arguments=arguments)
    own = read_overrides(f"{key}={value}" for key, value in arguments.items())
    return Target(name=f"{REFERENCE}:{published or VARIANTS[0].name}", arguments=arguments, choices=own)


def library(output_stride: int, classes: int, size: Pair) -> Library:
    """Return the networks that choices describe, at one output stride and size."""
    return Library(lambda choices: normal_form(shaped(specification(choices, output_stride, classes), size)))


@contextlib.contextmanager
def _without_traces() -> Iterator[None]:
    """Keep torch from printing a stack for a size that is refused: the next size may be accepted."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _captures(modules: Sequence[nn.Module], sizes: Sequence[Pair], name: str) -> tuple[Pair, list[Capture]]:
    """Read every module at the first size that all of them accept."""
    refused: TargetError | None = None
    for size in sizes:
        try:
            return size, [capture_at(module, size, name) for module in modules]
        except TargetError as error:
            refused = refused or error
    raise refused or SpecError("sizes", "must name a size", sizes)


def _candidate(captured: Capture, classes: int, size: Pair) -> Shaped:
    """Return the normal form of what was read; of several results, of the logits alone."""
    outputs = {node.path: captured.shapes[node.path] for node in captured.network.outputs}
    places = {node.op.name: node.path for node in captured.network.outputs if isinstance(node.op, Output)}
    results = [(name, outputs[path]) for name, path in places.items()]
    logits = places.get(choose_results(results, [("logits", (1, classes, *size))]).get("logits", ""))
    nodes = [
        replace(node, op=Output(name="logits")) if node.path == logits else node
        for node in captured.network
        if node.path == logits or not isinstance(node.op, Output)
    ]
    shapes = {path: shape[1:] if len(shape) == 4 else () for path, shape in captured.shapes.items()}  # noqa: PLR2004 - a batch of maps
    return normal_form(Shaped(network=Network(nodes=tuple(nodes)).live(), shapes=shapes))


def _search(candidates: Sequence[Shaped], libraries: Sequence[Library], variants: Sequence[Variant]) -> Identity:
    """Search from every variant, as wide as the candidate is."""
    width = read_width(candidates[0])
    starts: dict[str, Choices] = {entry.name: choose(entry.choices, {"width": width}) for entry in variants}
    found = search(candidates, libraries, starts)
    if found is None:
        raise SpecError("output_stride", "no published network has this one", "none")
    return found


def _stranger(candidate: Shaped, known: Library, found: Identity) -> str | None:
    """Say why a network is another one; the evidence is what it lacks of the published network."""
    if not stranger(align(known.build(found.choices), candidate)):
        return None
    published = variant(found.start).choices
    return stranger(align(known.build(published), candidate))


def _nearest(found: Identity, variants: Sequence[Variant]) -> Nearest:
    base = next(entry.choices for entry in variants if entry.name == found.start)
    decided = differences(base, found.choices)
    return Nearest(variant=found.start, choices={name: plain(value) for name, value in decided.items()})


def _findings(found: Identity, output_strides: Sequence[int]) -> list[FindingRecord]:
    return [
        FindingRecord(
            path=aspect.path,
            candidate_path=aspect.candidate_path,
            attribute=aspect.attribute,
            choice=None,
            expected=as_json(aspect.expected),
            actual=as_json(aspect.actual),
            hint="",
            output_stride=output_stride,
        )
        for output_stride, aspects in zip(output_strides, found.unexplained, strict=True)
        for aspect in aspects
    ]

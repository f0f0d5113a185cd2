"""Moves weights from one implementation to another, and writes them if both are proven to compute the same."""

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save
from torch import nn

from deeplab_spec.align.differences import Aspect
from deeplab_spec.align.published import different_architecture
from deeplab_spec.capture.candidate.module import local
from deeplab_spec.capture.capture import Candidate
from deeplab_spec.capture.fx.module import capture_target, check_runnable, fixed_size
from deeplab_spec.capture.target import Target, connect
from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.graph.ops import Conv2d, Pair
from deeplab_spec.port.advice import advice
from deeplab_spec.port.document import CountsModel, DifferenceModel, MoveModel, PortDocument, ProofModel, Verdict
from deeplab_spec.port.equivalent_forms import BIAS, MEAN, VARIANCE, Action
from deeplab_spec.port.parameter_map import ParameterMap, parameter_map
from deeplab_spec.port.proof import prove
from deeplab_spec.port.sides import Side, SideBySide, in_double, side_by_side
from deeplab_spec.port.weights import SAFE, load_weights
from deeplab_spec.views.document import write_whole

SIZES: Final[tuple[Pair, Pair]] = ((289, 300), (320, 352))
"""Images that show every rate of the published networks; the second for networks that do not accept the first."""

SMALL: Final[Pair] = (64, 96)
"""A second size at which the modules are compared; every published network accepts it."""

Tick = Callable[[str], None]
"""Receives the next stage."""

_NOTES: Final = (
    (Action.FOLDED, BIAS, "normalisations of the source were folded into their convolutions, in float64"),
    (
        Action.UNFOLDED,
        VARIANCE,
        "normalisations, folded in the source, only add a bias: training from here starts with them so",
    ),
    (Action.SHIFTED, MEAN, "biases before a normalisation were subtracted from its running mean"),
    (Action.INITIALISED, BIAS, "biases before a normalisation, missing in the source, are zero"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRequest:
    """The settings of one port.

    Attributes:
        source: The network that has the weights.
        dest: The network that gets them.
        output: The file that is written; None to prove and write nothing.
        weights: A file that is loaded into the source first.
        output_stride: Passed to the builders of both.
        classes: Passed to the builders of both.
        size: Height and width of the image, in pixels; None for one that both accept.
        seed: Seed of the images.
    """

    source: Target
    dest: Target
    output: Path | None = None
    weights: Path | None = None
    output_stride: int = 16
    classes: int = 21
    size: Pair | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The result of moving weights between two modules.

    Attributes:
        verdict: Whether they were moved, and if not, why.
        reason: Why not, in one sentence; empty if they were moved.
        pair: The two networks, aligned.
        map: The sources of every tensor; empty for another network.
        differences: Attributes in which the two graphs differ.
        proof: The proof by results; None if nothing was compared.
    """

    verdict: Verdict
    reason: str
    pair: SideBySide
    map: ParameterMap = field(default_factory=ParameterMap)
    differences: tuple[Aspect, ...] = ()
    proof: ProofModel | None = None


def port(request: PortRequest, tick: Tick = lambda _: None) -> PortDocument:
    """Move weights, and write the destination's state dict if both networks are proven to compute the same.

    Output of the targets goes to stderr.

    Raises:
        SpecError: If a file has the wrong suffix.
        TargetError: If a target cannot be built or read, or a file cannot be read or written.
        CaptureError: If a graph does not compute what its module computes.
    """
    output = request.output
    if output and output.suffix != SAFE:
        raise SpecError("--output", f"must end in {SAFE}", str(output))
    if output and not output.parent.is_dir():
        raise TargetError(str(output), "cannot be written: its directory does not exist")
    names = request.source.name, request.dest.name
    tick("building")
    with (
        contextlib.redirect_stdout(sys.stderr),
        contextlib.closing(connect(request.source, request.output_stride, request.classes)) as source,
        contextlib.closing(connect(request.dest, request.output_stride, request.classes)) as dest,
    ):
        notes = load_weights(source, request.weights) if request.weights else ()
        moved = move(source, dest, names=names, size=request.size, seed=request.seed, tick=tick)
    tick("looking for what would fit")
    line = advice(request, moved)
    if output and moved.verdict == "moved":
        tick("writing")
        write_whole(output, save(moved.map.written()))
    return port_document(request, moved, notes, line)


def move(
    source: nn.Module,
    dest: nn.Module,
    *,
    names: tuple[str, str] = ("source", "destination"),
    size: Pair | None = None,
    seed: int = 0,
    tick: Tick = lambda _: None,
) -> Moved:
    """Move the weights of one module into another, and prove that they compute the same.

    Both modules are in evaluation mode afterwards; if the proof holds, the destination has the weights.

    Raises:
        SpecError: If both are the same module.
        TargetError: If one cannot be read.
        CaptureError: If a graph does not compute what its module computes.
    """
    if source is dest:
        raise SpecError("DEST", "must be another network than the source", names[1])
    pair, second = _capture_both((hosted(source), hosted(dest)), names, size, tick)
    try:
        tick("aligning")
        return _moved(pair, second, seed, tick)
    finally:
        pair.source.restore()
        pair.dest.restore()


def hosted(module: nn.Module) -> Candidate:
    """Return a module of this process as a candidate; a candidate is returned as it is."""
    return module if isinstance(module, Candidate) else local(module)


def _moved(pair: SideBySide, second: Pair | None, seed: int, tick: Tick) -> Moved:
    if reason := different_architecture(pair.alignment):
        return Moved(verdict="another_network", reason=reason, pair=pair)
    mapping, differences = parameter_map(pair), pair.differences()
    if mapping.gaps:
        reason = "; ".join(_lost(mapping))
        return Moved(verdict="no_partner", reason=reason, pair=pair, map=mapping, differences=differences)
    if differences:
        first = differences[0]
        reason = f"the first difference is at {first.candidate_path or first.path}: its {first.attribute}"
        return Moved(verdict="different", reason=reason, pair=pair, map=mapping, differences=differences)
    proof = prove(pair, mapping, second, seed, tick)
    if not proof.equal:
        where = f"the first difference is at {proof.first.path}" if proof.first else "no single operation shows it"
        reason = f"the results are not equal; {where}"
        return Moved(verdict="unequal", reason=reason, pair=pair, map=mapping, proof=proof)
    return Moved(verdict="moved", reason="", pair=pair, map=mapping, proof=proof)


def _lost(mapping: ParameterMap) -> Iterator[str]:
    """Yield what has no partner: the destination's tensors without a value, and the source's without a place."""
    counts = Counter(dict.fromkeys(("destination", "source"), 0))
    for gap in mapping.gaps:
        counts[gap.side] += len(gap.names)
    if counts["destination"]:
        yield f"{counts['destination']} tensors of the destination get no value"
    if counts["source"]:
        yield f"{counts['source']} tensors of the source have no place in the destination"


def _capture_both(
    modules: tuple[Candidate, Candidate], names: tuple[str, str], requested: Pair | None, tick: Tick
) -> tuple[SideBySide, Pair | None]:
    """Capture both graphs at the first size that both accept; also return the second size to compare at."""
    for module in modules:
        check_runnable(module)
    fixed = next((size for module in modules if (size := fixed_size(module))), None)
    sizes = (requested,) if requested else (fixed,) if fixed else SIZES
    errors = []
    for size in sizes:
        try:
            captures = []
            for module, name in zip(modules, names, strict=True):
                tick(f"reading {name} at {size[0]}x{size[1]}")
                captures.append(capture_target(module, size, name))
        except TargetError as error:
            errors.append(error)
            continue
        sides = [in_double(*each, size) for each in zip(modules, names, captures, strict=True)]
        return side_by_side(*sides), None if fixed or size == SMALL else SMALL
    raise errors[0]


def port_document(request: PortRequest, moved: Moved, notes: tuple[str, ...] = (), line: str = "") -> PortDocument:
    """Return the document of a request and its result.

    ``notes`` are those on the file of weights, ``line`` is the command that would move the weights.
    """
    moves = moved.map.moves.values()
    actions = Counter(move.action for move in moves)
    return PortDocument(
        source=request.source.name,
        destination=request.dest.name,
        weights=str(request.weights) if request.weights else None,
        output_stride=request.output_stride,
        classes=request.classes,
        size=moved.pair.source.image,
        torch=torch.__version__.partition("+")[0],
        verdict=moved.verdict,
        reason=moved.reason,
        written=str(request.output) if request.output and moved.verdict == "moved" else None,
        dtypes=tuple(sorted({str(dtype).removeprefix("torch.") for dtype in moved.map.dtypes.values()})),
        counts=CountsModel(
            **{action.value: actions[action] for action in Action}, permuted=sum(move.permuted for move in moves)
        ),
        notes=(*notes, *_notes(moved.map), *_rates_not_shown(moved.pair.source)),
        gaps=tuple(moved.map.gaps),
        differences=tuple(
            DifferenceModel(
                path=aspect.candidate_path,
                source_path=aspect.path,
                attribute=aspect.attribute,
                source=str(aspect.expected),
                destination=str(aspect.actual),
            )
            for aspect in moved.differences
        ),
        proof=moved.proof,
        parameters=tuple(
            MoveModel(name=move.name, sources=move.sources, action=move.action.value, permuted=move.permuted)
            for move in moves
        ),
        advice=line,
    )


def _notes(mapping: ParameterMap) -> Iterator[str]:
    for action, role, text in _NOTES:
        count = sum(move.action is action and move.role == role for move in mapping.moves.values())
        if count:
            yield f"{count} {text}"
    if unused := mapping.unused:
        yield f"{len(unused)} tensors of the source were not moved: no output depends on them (first {unused[0]!r})"


def _rates_not_shown(side: Side) -> Iterator[str]:
    """Yield a note if the image is too small for a rate, so that the outer taps of the kernel see padding only."""
    rates = [
        max(node.op.rate)
        for node in side.captured.network
        if isinstance(node.op, Conv2d)
        and node.op.kernel != (1, 1)
        and max(node.op.rate) >= min(side.captured.shapes[node.inputs[0]][2:])
    ]
    if rates:
        names = ", ".join(map(str, sorted(set(rates))))
        yield f"the image is too small for the results to show rates of {names} ({len(rates)} convolutions)"

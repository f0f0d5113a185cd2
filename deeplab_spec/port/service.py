"""Moves weights from one implementation to another, and writes them once they are proven to be the same network."""

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from safetensors.torch import save
from torch import nn

from deeplab_spec.align.differences import Aspect
from deeplab_spec.capture.file_module import FileModule
from deeplab_spec.capture.target import Target, load
from deeplab_spec.count.target_counts import captured_at
from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.graph.ops import Pair
from deeplab_spec.port.parameter_map import ParameterMap, parameter_map
from deeplab_spec.port.proof import Proof, prove
from deeplab_spec.port.sides import SideBySide, in_double, side_by_side
from deeplab_spec.port.weights import SAFE, load_weights
from deeplab_spec.views.files import write_whole

__all__ = ["Moved", "PortRequest", "move", "parameter_map", "port"]

SIZES: Final[tuple[Pair, Pair]] = ((289, 300), (320, 352))
"""Images at which the published networks show every rate; the second for networks that refuse the first."""

SMALL: Final[Pair] = (64, 96)
"""Another image at which the modules are compared, too; every published network accepts it."""

Tick = Callable[[str], None]
"""Told what happens next."""

Verdict = Literal["moved", "different", "unequal", "another_network", "no_partner"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRequest:
    """Everything that decides what is moved.

    Attributes:
        source: What has the weights.
        dest: What gets them.
        output: The file that is written; None to prove and write nothing.
        weights: A file that is loaded into the source first.
        output_stride: Passed to what builds both.
        classes: Passed to what builds both.
        size: Height and width of the image; None for one that both accept.
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
    """What became of moving weights.

    Attributes:
        verdict: Whether they were moved, and if not, why.
        reason: Why not, in one sentence; empty if they were.
        pair: The two networks side by side.
        map: Where every tensor comes from; None for another network.
        differences: Facts in which the two graphs differ.
        proof: The proof by results; None if there was nothing to prove.
    """

    verdict: Verdict
    reason: str
    pair: SideBySide
    map: ParameterMap = field(default_factory=ParameterMap)
    differences: tuple[Aspect, ...] = ()
    proof: Proof | None = None


def port(request: PortRequest, tick: Tick = lambda _: None) -> tuple[Moved, tuple[str, ...]]:
    """Move weights and write the destination's state dict, if the two are proven to be the same network.

    What the targets print goes to stderr.

    Args:
        request: What is moved where.
        tick: Told what happens next.

    Returns:
        What became of it, and what was done to the file of weights to make it fit.

    Raises:
        SpecError: If a file's name has another ending than it must have.
        TargetError: If a target cannot be built or read, or a file not read or written.
        CaptureError: If a graph does not compute what its module computes.
    """
    output = request.output
    if output and output.suffix != SAFE:
        raise SpecError("--output", f"must end in {SAFE}", str(output))
    if output and not output.parent.is_dir():
        raise TargetError(str(output), "cannot be written: its directory is not there")
    names = request.source.name, request.dest.name
    with contextlib.redirect_stdout(sys.stderr):
        tick("building")
        source = load(request.source, request.output_stride, request.classes)
        dest = load(request.dest, request.output_stride, request.classes)
        notes = load_weights(source, request.weights) if request.weights else ()
        moved = move(source, dest, names=names, size=request.size, seed=request.seed, tick=tick)
    if output and moved.verdict == "moved":
        tick("writing")
        write_whole(output, save(moved.map.written()))
    return moved, notes


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

    Both are in evaluation afterwards; if the proof holds, the destination has the weights.

    Args:
        source: What has the weights.
        dest: What gets them.
        names: How messages call the two.
        size: Height and width of the image; None for one that both accept.
        seed: Seed of the images.
        tick: Told what happens next.

    Raises:
        SpecError: If the two are one and the same module.
        TargetError: If one cannot be read.
        CaptureError: If a graph does not compute what its module computes.
    """
    if source is dest:
        raise SpecError("DEST", "must be another network than the source", names[1])
    pair, second = _read((source, dest), names, size, tick)
    try:
        tick("aligning")
        return _moved(pair, second, seed, tick)
    finally:
        pair.source.restore()
        pair.dest.restore()


def _moved(pair: SideBySide, second: Pair | None, seed: int, tick: Tick) -> Moved:
    if stranger := pair.stranger:
        return Moved(verdict="another_network", reason=stranger, pair=pair)
    found, differences = parameter_map(pair), pair.differences()
    if found.gaps:
        reason = f"{sum(len(gap.names) for gap in found.gaps)} tensors have no partner"
        return Moved(verdict="no_partner", reason=reason, pair=pair, map=found, differences=differences)
    if differences:
        reason = f"the first difference is at {differences[0].candidate_path or differences[0].path}"
        return Moved(verdict="different", reason=reason, pair=pair, map=found, differences=differences)
    proof = prove(pair, found, second, seed, tick)
    if not proof.equal:
        where = f"the first difference is at {proof.first.path}" if proof.first else "no single operation shows it"
        reason = f"the results are not equal; {where}"
        return Moved(verdict="unequal", reason=reason, pair=pair, map=found, proof=proof)
    return Moved(verdict="moved", reason="", pair=pair, map=found, proof=proof)


def _read(
    modules: tuple[nn.Module, nn.Module], names: tuple[str, str], asked: Pair | None, tick: Tick
) -> tuple[SideBySide, Pair | None]:
    """Read both graphs at the first size that both accept; return another size to compare at, too."""
    fixed = next((size for module in modules if (size := _fixed(module))), None)
    sizes = (asked,) if asked else (fixed,) if fixed else SIZES
    errors = []
    for size in sizes:
        try:
            captures = []
            for module, name in zip(modules, names, strict=True):
                tick(f"reading {name} at {size[0]}x{size[1]}")
                captures.append(captured_at(module.eval(), size, name))
        except TargetError as error:
            errors.append(error)
            continue
        sides = [in_double(*each, size) for each in zip(modules, names, captures, strict=True)]
        return side_by_side(*sides), None if fixed or size == SMALL else SMALL
    raise errors[0]


def _fixed(module: nn.Module) -> Pair | None:
    """Return the size of image that a file is fixed to."""
    if not isinstance(module, FileModule) or len(module.shapes) != 1:
        return None
    sides = module.shapes[0][2:]
    return (sides[0], sides[1]) if len(sides) == 2 and sides[0] and sides[1] else None  # noqa: PLR2004 - height, width

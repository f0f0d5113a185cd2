"""Profiles a target: where the time of a step goes, block by block, under the specification's paths."""

import contextlib
import platform
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from deeplab_spec.align.canonical import specified_paths
from deeplab_spec.align.published import nearest
from deeplab_spec.analysis.costs import batch_costs
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.capture.target import REFERENCE, Target, load
from deeplab_spec.count.target_counts import captured_at, named
from deeplab_spec.errors import SpecError, TargetError, one_line
from deeplab_spec.execute.torch_settings import float32_products
from deeplab_spec.graph.ops import Pair
from deeplab_spec.judge.structure.nearest_form import in_normal_form
from deeplab_spec.measure.modes import Mode as ExecutionMode
from deeplab_spec.measure.parts import EAGER
from deeplab_spec.measure.roofline import ceilings
from deeplab_spec.profile.document import TENSORBOARD, TRACE, CeilingsModel, DeviceModel, ProfileDocument
from deeplab_spec.profile.modes import in_mode, profile_mode
from deeplab_spec.profile.ranges import call_order, ranged_modules
from deeplab_spec.profile.rows import Rows
from deeplab_spec.profile.run import Work, record
from deeplab_spec.profile.trace import for_tensorboard, read
from deeplab_spec.profile.trace_blocks import UNATTRIBUTED, Call, Step, attribute
from deeplab_spec.spec.choices import ChoiceValue, choose, plain
from deeplab_spec.spec.network import DEFAULT_CLASSES
from deeplab_spec.spec.variants import Variant
from deeplab_spec.spec.variants import variant as published
from deeplab_spec.views.progress import Progress, silent

DEVICES: Final = ("cpu", "cuda")
_DETAILED: Final = 2
"""Steps of the trace for TensorBoard."""
_SEED: Final = 0
"""Of the weights that a target draws, and of the images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRequest:
    """What is profiled, and how.

    Attributes:
        target: ``reference:VARIANT``, or ``module:callable``.
        variant: The published network whose paths the blocks get; by default the most alike.
        overrides: Choices decided otherwise than the variant does.
        arguments: Keyword arguments of what builds the target, as text.
        output_stride: Passed to what builds it.
        classes: Passed to what builds it.
        size: Height and width of the images.
        batch: Images per step.
        steps: Steps that count.
        warmup: Steps before them.
        device: ``cpu`` or ``cuda``.
        direction: An evaluation, or a forward and a backward pass.
        mode: How the network runs, as ``bench`` names it; an evaluation only, except in ``eager``.
        ceilings: Whether the device's ceilings are measured; for ``eager`` only.

    Raises:
        SpecError: If a number, the device or the mode is none that it can be.
    """

    target: str
    variant: str | None = None
    overrides: Mapping[str, ChoiceValue] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    output_stride: int = 16
    classes: int = DEFAULT_CLASSES
    size: Pair = (513, 513)
    batch: int = 1
    steps: int = 10
    warmup: int = 3
    device: str = "cpu"
    direction: Mode = Mode.FORWARD
    mode: str = EAGER
    ceilings: bool = True

    def __post_init__(self) -> None:
        least = {"batch": 1, "steps": 2, "warmup": 0, "classes": 1}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise SpecError(f"--{name}", f"must be {minimum} or more", getattr(self, name))
        if self.device not in DEVICES:
            raise SpecError("--device", f"must be one of {', '.join(DEVICES)}", self.device)
        if self.mode in set(Mode):
            raise SpecError("--mode", "names how the network runs; its direction is --direction", self.mode)
        if self.mode != EAGER and self.direction is Mode.TRAIN:
            raise SpecError("--direction", f"must be {Mode.FORWARD} in another mode than {EAGER}", self.direction.value)
        if self.overrides and not self.expected:
            raise SpecError("--choose", "needs --variant, or a reference", ", ".join(self.overrides))

    @property
    def expected(self) -> Variant | None:
        """The published network, with the choices decided; None if the most alike is to be found.

        Raises:
            SpecError: If there is no such variant or choice.
        """
        kind, _, name = self.target.partition(":")
        name = self.variant or (name if kind == REFERENCE else "")
        if not name:
            return None
        entry = published(name)
        return replace(entry, choices=choose(entry.choices, self.overrides))


def profile(request: ProfileRequest, directory: Path, progress: Progress = silent) -> ProfileDocument:
    """Profile a target, and leave the two traces in a directory.

    Float32 is IEEE's: TF32 is switched off. What the target prints goes to stderr.

    Args:
        request: What is profiled, and how.
        directory: Where the traces go; made where it is missing.
        progress: Told how many steps of a stage are done, of how many.

    Raises:
        SpecError: If the mode cannot run on the device, or time has no block in it.
        TargetError: If the target cannot be built, read or run, or the device is not there.
    """
    device = _device(request)
    mode = profile_mode(request.mode, request.device)
    with contextlib.redirect_stdout(sys.stderr), float32_products(tf32=False):
        return _profile(request, device, mode, directory, progress)


def _profile(
    request: ProfileRequest, device: torch.device, mode: ExecutionMode, directory: Path, progress: Progress
) -> ProfileDocument:
    progress("building", 0, 1)
    torch.manual_seed(_SEED)
    choices = request.overrides if request.target.partition(":")[0] == REFERENCE else {}
    target = Target(name=request.target, arguments=request.arguments, choices=choices)
    module = load(target, request.output_stride, request.classes)
    captured = captured_at(module, request.size, request.target)
    candidate = in_normal_form(captured)
    found = nearest(candidate, request.output_stride, request.classes, request.size, request.expected)
    entry = found[1] if found else None
    paths = (
        specified_paths(found[0], captured.network) if found else {node.path: node.path for node in captured.network}
    )
    ranged = ranged_modules(captured, paths)
    calls = call_order(captured, paths, ranged)
    order = tuple(calls.values())
    blocks = {paths[path]: call.block for path, call in calls.items()}
    costs = batch_costs(*named(captured, paths), request.direction, request.batch, blocks)
    channels = captured.shapes[captured.network.inputs[0].path][1]
    images = torch.randn(request.batch, channels, *request.size, generator=torch.Generator().manual_seed(_SEED))
    work = _work(request, module.to(device), images.to(device), mode, ranged)
    limits = ceilings(device) if request.ceilings and mode.name == EAGER else None
    timed, detailed = _run(request, work, order, directory, progress)
    rows = Rows(timed, detailed, costs, limits)
    return ProfileDocument(
        target=request.target,
        arguments=dict(request.arguments),
        variant=entry.name if entry else None,
        choices={name: plain(value) for name, value in request.overrides.items()},
        output_stride=request.output_stride,
        classes=request.classes,
        size=request.size,
        batch=request.batch,
        dtype="float32",
        mode=request.direction,
        execution_mode=mode.name,
        steps=request.steps,
        warmup=request.warmup,
        device=DeviceModel(
            kind="cuda" if device.type == "cuda" else "cpu", name=_name(device), threads=torch.get_num_threads()
        ),
        torch=torch.__version__,
        ceilings=CeilingsModel(flops_per_second=limits.flops_per_second, bytes_per_second=limits.bytes_per_second)
        if limits
        else None,
        total=rows.total(),
        blocks=tuple(rows.row(path) for path in dict.fromkeys(blocks.values()) if path != UNATTRIBUTED),
        unattributed=rows.row(UNATTRIBUTED),
        notes=tuple(_notes(entry, mode, timed, len(order))),
    )


def _work(
    request: ProfileRequest, module: nn.Module, images: Tensor, mode: ExecutionMode, ranged: Mapping[str, str]
) -> Work:
    try:
        made, placed = in_mode(module, mode, images, ranged)
    except Exception as error:
        raise TargetError(request.target, f"cannot run in the mode {mode.name}: {one_line(error)}") from error
    return Work(module=made, images=images, mode=request.direction, ranged=placed)


def _run(
    request: ProfileRequest, work: Work, order: Sequence[Call], directory: Path, progress: Progress
) -> tuple[list[Step], list[Step]]:
    """Warm up, time, and record details; return the steps of both traces."""
    ranges = frozenset(work.ranged.values())
    on_device = request.device != "cpu"
    (directory / TENSORBOARD).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".traces.") as scratch:
        timed, detailed = Path(scratch, "timed.json"), Path(scratch, "detailed.json")
        try:
            work.module.train(request.direction is Mode.TRAIN)
            for number in range(request.warmup):
                work.step()
                progress("warming up", number + 1, request.warmup)
            record(work, request.steps, timed, progress=lambda done: progress("timing", done, request.steps))
            record(work, _DETAILED, detailed, detailed=True)
        except Exception as error:
            raise TargetError(request.target, f"cannot be run: {one_line(error)}") from error
        steps = attribute(read(timed), order, ranges)
        details = attribute(read(detailed), order, ranges, on_device=on_device)
        for_tensorboard(detailed, directory / TENSORBOARD)
        timed.replace(directory / TRACE)
    return steps, details


def _device(request: ProfileRequest) -> torch.device:
    if request.device == "cuda" and not torch.cuda.is_available():
        raise TargetError("--device cuda", "no CUDA device is available")
    return torch.device(request.device)


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _notes(entry: Variant | None, mode: ExecutionMode, steps: Iterable[Step], calls: int) -> Iterable[str]:
    if entry is None:
        yield "another network: blocks are named by its own modules"
    unmatched = max(step.unmatched for step in steps)
    if unmatched:
        yield f"{unmatched} of {calls} operators of the captured graph were not seen when it ran"
    if mode.name != EAGER:
        yield f"the captured graph, work and bytes are those of {EAGER}; another mode has no roofline"

"""Profiles a target: the time of every block in a step, under the specification's paths."""

import contextlib
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from deeplab_spec.align.canonical import specified_paths
from deeplab_spec.align.published import align_published
from deeplab_spec.analysis.costs import BatchCost, batch_costs
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.capture.equivalences.graph_builder import merge_recomputed
from deeplab_spec.capture.fx.module import capture_target
from deeplab_spec.capture.target import Target, build_here, connect, is_file
from deeplab_spec.count.target_counts import named
from deeplab_spec.errors import TargetError, one_line
from deeplab_spec.execute.torch_settings import float32_products
from deeplab_spec.judge.structure.nearest_form import in_normal_form
from deeplab_spec.measure.device import ceilings, device_name
from deeplab_spec.measure.modes import Mode as ExecutionMode
from deeplab_spec.measure.parts import EAGER
from deeplab_spec.measure.statistics import CeilingsModel, mean_interval
from deeplab_spec.profile.document import (
    TENSORBOARD,
    TRACE,
    BlockModel,
    CallModel,
    DeviceModel,
    ProfileDocument,
    TimeModel,
)
from deeplab_spec.profile.request import ProfileRequest
from deeplab_spec.profile.run import Work, call_order, in_mode, profile_mode, ranged_modules, record
from deeplab_spec.profile.trace import for_tensorboard, read
from deeplab_spec.profile.trace_blocks import UNATTRIBUTED, Call, Slice, Step, Uses, attribute
from deeplab_spec.spec.choices import plain
from deeplab_spec.spec.variants import REFERENCE, Variant
from deeplab_spec.views.document import written_together
from deeplab_spec.views.progress import Progress, silent

_DETAILED: Final = 2
"""Steps of the trace for TensorBoard."""
_UNQUOTED: Final = str.maketrans({'"': "'", "\\": "/"})
"""Characters that the framework writes into a trace without escaping them."""
_SEED: Final = 0
"""Seed of the target's random weights, and of the images."""


def profile(request: ProfileRequest, directory: Path, progress: Progress = silent) -> ProfileDocument:
    """Profile a target, and write two traces to a directory.

    Float32 is IEEE float32: TF32 is switched off. The target's output to stdout goes to stderr.

    Raises:
        SpecError: If the mode cannot run on the device, or merges the blocks.
        TargetError: If the target cannot be built, read or run, or there is no such device.
    """
    device = _device(request)
    mode = profile_mode(request.mode, request.device)
    with contextlib.redirect_stdout(sys.stderr), float32_products(tf32=False):
        return _profile(request, device, mode, directory, progress)


def _profile(
    request: ProfileRequest, device: torch.device, mode: ExecutionMode, directory: Path, progress: Progress
) -> ProfileDocument:
    progress("building", 0, 1)
    choices = request.overrides if request.target.partition(":")[0] == REFERENCE else {}
    target = Target(name=request.target, arguments=request.arguments, choices=choices)
    module = build_here(target, request.output_stride, request.classes, _SEED)
    read = connect(target, request.output_stride, request.classes) if is_file(target.name) else module
    captured = capture_target(read, request.size, request.target)
    candidate = in_normal_form(captured)
    match = align_published(candidate, request.output_stride, request.classes, request.size, request.expected)
    entry = match[1] if match else None
    paths = (
        specified_paths(match[0], captured.network, merge_recomputed(captured).again)
        if match
        else {node.path: node.path for node in captured.network}
    )
    paths = {node: path.translate(_UNQUOTED) for node, path in paths.items()}
    ranged = {} if is_file(target.name) else ranged_modules(captured, paths)  # a program from a file has no modules
    calls = call_order(captured, paths, ranged)
    order = tuple(calls.values())
    blocks = {paths[path]: call.block for path, call in calls.items()}
    costs = batch_costs(*named(captured, paths), request.direction, request.batch, blocks)
    channels = captured.shapes[captured.network.inputs[0].path][1]
    images = torch.randn(request.batch, channels, *request.size, generator=torch.Generator().manual_seed(_SEED))
    work = _work(request, module.to(device), images.to(device), mode, ranged)
    limits = ceilings(device) if request.ceilings and mode.name == EAGER else None
    timed, detailed = _run(request, work, order, directory, progress)
    rows = _Rows(timed, detailed, costs, limits)
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
            kind="cuda" if device.type == "cuda" else "cpu", name=device_name(device), threads=torch.get_num_threads()
        ),
        torch=torch.__version__,
        ceilings=limits,
        total=rows.total(),
        blocks=tuple(rows.row(path) for path in dict.fromkeys(blocks.values()) if path != UNATTRIBUTED),
        unattributed=rows.row(UNATTRIBUTED),
        notes=tuple(_notes(entry, mode, timed, len(order))),
    )


def _work(
    request: ProfileRequest, module: nn.Module, images: Tensor, mode: ExecutionMode, ranged: Mapping[str, str]
) -> Work:
    try:
        running, placed = in_mode(module, mode, images, ranged)
    except (Exception, SystemExit) as error:
        raise TargetError(request.target, f"cannot run in the mode {mode.name}: {one_line(error)}") from error
    return Work(module=running, images=images, mode=request.direction, ranged=placed)


def _run(
    request: ProfileRequest, work: Work, order: Sequence[Call], directory: Path, progress: Progress
) -> tuple[list[Step], list[Step]]:
    """Warm up, time, and record details; return the steps of both traces."""
    ranges = frozenset(work.ranged.values())
    on_device = request.device != "cpu"
    with written_together(directory) as folder:
        timed, detailed = folder / TRACE, folder / TENSORBOARD
        detailed.parent.mkdir()
        try:
            work.module.train(request.direction is Mode.TRAIN)
            for number in range(request.warmup):
                work.step()
                progress("warming up", number + 1, request.warmup)
            record(work, request.steps, timed, progress=lambda done: progress("timing", done, request.steps))
            record(work, _DETAILED, detailed, detailed=True)
        except (Exception, SystemExit) as error:
            raise TargetError(request.target, f"cannot be run: {one_line(error)}") from error
        steps = attribute(read(timed), order, ranges)
        details = attribute(read(detailed), order, ranges, on_device=on_device)
        for_tensorboard(detailed, detailed)
    return steps, details


def _device(request: ProfileRequest) -> torch.device:
    if request.device == "cuda" and not torch.cuda.is_available():
        raise TargetError("--device cuda", "no CUDA device is available")
    return torch.device(request.device)


def _notes(entry: Variant | None, mode: ExecutionMode, steps: Iterable[Step], calls: int) -> Iterable[str]:
    if entry is None:
        yield "another network: its blocks have the names of its modules"
    unmatched = max(step.unmatched for step in steps)
    if unmatched:
        yield f"{unmatched} of {calls} operators of the captured graph were not seen in the run"
    if mode.name != EAGER:
        yield f"the graph, work and bytes are those of {EAGER}; another mode has no roofline"


class _Rows:
    """Makes the rows of a profile from timed steps, and from detailed ones with their memory."""

    def __init__(
        self,
        timed: Sequence[Step],
        detailed: Sequence[Step],
        costs: Mapping[str, BatchCost],
        ceilings: CeilingsModel | None,
    ) -> None:
        self.timed = timed
        self.on_device = any(step.device for step in timed)
        self.costs = costs
        self.ceilings = ceilings
        self.peaks: dict[str, int] = defaultdict(int)
        for step in detailed:
            for path, peak in step.peak.items():
                self.peaks[path] = max(self.peaks[path], peak)

    def row(self, path: str) -> BlockModel:
        """Return the row of a block."""
        parts = [step.slices.get(path, Slice()) for step in self.timed]
        return self._row(path, parts, self.costs.get(path), self.peaks.get(path))

    def total(self) -> BlockModel:
        """Return the row of the whole network."""
        parts = [
            Slice(
                host=step.host,
                device=step.device,
                operators=_sum(part.operators for part in step.slices.values()),
                kernels=_sum(part.kernels for part in step.slices.values()),
            )
            for step in self.timed
        ]
        cost = sum(self.costs.values(), start=BatchCost())
        return self._row("total", parts, cost, max(self.peaks.values(), default=None))

    def _row(self, path: str, parts: Sequence[Slice], cost: BatchCost | None, peak: int | None) -> BlockModel:
        host = _time([part.host for part in parts])
        device = _time([part.device for part in parts]) if self.on_device else None
        known = cost if cost and not cost.unknown else None
        seconds = (device or host).mean / 1e9
        least = self.ceilings.least_seconds(known.flops, known.moved) if self.ceilings and known else None
        return BlockModel(
            path=path,
            host=host,
            device=device,
            operators=_calls([part.operators for part in parts]),
            kernels=_calls([part.kernels for part in parts]) if self.on_device else None,
            flops=known.flops if known else None,
            bytes=known.moved if known else None,
            intensity=known.flops / known.moved if known and known.moved else None,
            roofline=least / seconds if least and seconds else None,
            peak_bytes=peak,
        )


def _time(steps: Sequence[int]) -> TimeModel:
    return TimeModel(steps=tuple(steps), **mean_interval(steps).model_dump())


def _sum(parts: Iterable[Mapping[str, Uses]]) -> dict[str, Uses]:
    total: dict[str, Uses] = defaultdict(Uses)
    for part in parts:
        for name, uses in part.items():
            total[name] += uses
    return dict(total)


def _calls(steps: Sequence[Mapping[str, Uses]]) -> tuple[CallModel, ...]:
    """Return means over the steps, the longest first."""
    total = sorted(_sum(steps).items(), key=lambda item: (-item[1].time, item[0]))
    count = len(steps)
    return tuple(CallModel(name=name, calls=uses.calls / count, time=uses.time / count) for name, uses in total)

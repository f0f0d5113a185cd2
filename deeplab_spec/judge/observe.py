"""Observes a candidate at one output stride: its interface, its graph, its values, its training."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from deeplab_spec.align.counts import block_counts
from deeplab_spec.align.differences import aspects
from deeplab_spec.align.lock import Lock
from deeplab_spec.capture.capture import FileModule
from deeplab_spec.capture.fx.module import uncompiled
from deeplab_spec.errors import CaptureError, TargetError
from deeplab_spec.execute.torch_settings import float32_products
from deeplab_spec.judge import certificate as documents
from deeplab_spec.judge import expected as required
from deeplab_spec.judge.evidence import Evidence
from deeplab_spec.judge.interface import observe as interface
from deeplab_spec.judge.interface.planted import of_calls, of_comparisons
from deeplab_spec.judge.numerics import observe as numerics
from deeplab_spec.judge.plan import Plan, SpecifiedPlan, against, plan
from deeplab_spec.judge.planted import PlantedFault
from deeplab_spec.judge.precision.run import moved
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.structure import observe as structure
from deeplab_spec.judge.structure.check import by_clause
from deeplab_spec.judge.structure.explanation import Explained, explained
from deeplab_spec.judge.structure.observe import Reading
from deeplab_spec.judge.structure.planted import of_graphs
from deeplab_spec.judge.training import observe as training
from deeplab_spec.judge.training.planted import of_training
from deeplab_spec.spec.clauses import Level
from deeplab_spec.views.progress import Progress

Builder = Callable[[int], nn.Module]
"""Builds the candidate for an output stride."""

ReferenceReader = Callable[[int], Lock]
"""Reads the other network for an output stride."""


@dataclass(slots=True, kw_only=True)
class AtStride:
    """What was found at one output stride."""

    plan: Plan
    evidence: Evidence
    image: tuple[int, int] | None = None
    reading: Reading | None = None
    smallest: tuple[str, documents.SmallestInput] | None = None
    conditioning: documents.Conditioning | None = None
    explained: Explained = field(default_factory=Explained)
    required: dict[str, int] = field(default_factory=dict)
    planted_faults: list[PlantedFault] = field(default_factory=list)


class Stages:
    """Counts the stages of a run."""

    PER_STRIDE = 17

    def __init__(self, progress: Progress, strides: int) -> None:
        self.progress = progress
        self.total = self.PER_STRIDE * strides
        self.count = 0

    def tick(self, prefix: str) -> Callable[[str], None]:
        """Return what is told the next stage of one kind."""

        def told(what: str) -> None:
            self.progress(f"{prefix}: {what}", min(self.count, self.total), self.total)
            self.count += 1

        return told

    def done(self) -> None:
        """Say that all stages are done."""
        self.progress("done", self.total, self.total)


def observe(
    request: Request, output_stride: int, build: Builder, reference_reader: ReferenceReader | None, stages: Stages
) -> AtStride:
    """Observe a candidate at one output stride.

    Args:
        request: What is asked.
        output_stride: What it is built with.
        build: Builds it; its errors are not caught here.
        reference_reader: Reads the network that it is held against, where that is not the specification.
        stages: Told how far the judgement is.
    """
    tick = stages.tick(f"output stride {output_stride}")
    tick("building")
    running = build_with_seed(build, output_stride, request.seed).eval()
    module = uncompiled(running)
    if request.device != "cpu" and isinstance(module, FileModule) and module.float32_only:
        raise TargetError(f"--device {request.device}", "the runtime of a file is run on the processor only")
    limits = structure.limits_of(module)
    planned = (
        against(request, reference_reader(output_stride), limits)
        if reference_reader
        else plan(request, output_stride, limits)
    )
    found = AtStride(
        plan=planned,
        evidence=Evidence(
            output_stride=output_stride,
            part=request.part,
            fixed_size=bool(limits.sides),
            fixed_batch=limits.batch is not None,
        ),
    )
    if set(request.levels) - {Level.INTERFACE}:
        tick("reading the graph")
        _read(found, module)
        if found.evidence.other_architecture:
            return found
    if Level.INTERFACE in request.levels:
        tick_call = stages.tick(f"output stride {output_stride}, interface")
        with moved(module, planned.device):
            found.evidence = replace(found.evidence, calls=interface.calls(module, planned, tick_call, planned.device))
        found.required |= required.of_interface(planned)
        found.planted_faults += of_calls(planned)
    if found.reading:
        _run(found, found.reading, module, running, request, build, tick)
    elif Level.INTERFACE in request.levels:
        _compare(found, module, tick)
    return found


def build_with_seed(build: Builder, output_stride: int, seed: int) -> nn.Module:
    """Build a candidate with a seed: whatever it draws, it draws again in another run.

    A precision of products that its code sets for the whole process is put back: the judgement sets its own.
    """
    with torch.random.fork_rng(devices=[]), float32_products(tf32=False):
        torch.manual_seed(seed)
        return build(output_stride)


def _compare(found: AtStride, module: nn.Module, tick: Callable[[str], None]) -> None:
    """Compare evaluations that must agree, in the dtype that tells most of those that the candidate runs in."""
    single = isinstance(module, FileModule) and module.float32_only
    dtype = torch.float32 if single else torch.float64
    with moved(module, found.plan.device):
        comparisons = interface.comparisons(module.to(dtype), found.plan, dtype, tick, found.plan.device)
    found.evidence = replace(found.evidence, comparisons=comparisons)
    found.planted_faults += of_comparisons(found.plan, dtype)


def _read(found: AtStride, module: nn.Module) -> None:
    try:
        reading = structure.read(module, found.plan)
    except CaptureError as error:
        found.evidence = replace(found.evidence, graph_reason=str(error), numerics_reason=str(error))
        return
    found.reading, found.image = reading, reading.image
    unstrided = structure.unstrided_blocks(found.plan.network)
    found.evidence = replace(
        found.evidence,
        aspects=by_clause(aspects(reading.alignment), unstrided),
        counts=block_counts(reading.alignment, reading.shared),
        folded=reading.folded,
        other_architecture=reading.other_architecture or "",
        folded_convs=reading.folded_convs,
    )
    if reading.other_architecture:
        return
    expected = reading.compared(found.plan.expected(reading.image))
    if Level.STRUCTURE in found.plan.request.levels:
        facts = required.facts(expected.network, unstrided)
        found.required |= required.of_structure(expected.network, facts)
        found.planted_faults += of_graphs(expected, reading, facts, unstrided)
    if Level.NUMERICS in found.plan.request.levels:
        found.required |= required.of_numerics(expected.network, reading.expected)
        found.required |= required.of_lower(expected.network, len(found.plan.request.lower))


def _run(
    found: AtStride,
    reading: Reading,
    module: nn.Module,
    running: nn.Module,
    request: Request,
    build: Builder,
    tick: Callable[[str], None],
) -> None:
    """Run the candidate with drawn weights: for the numerics, for comparisons at the interface, and in training."""
    loaded = numerics.prepare(module, running, reading)
    learns = Level.TRAINING in request.levels
    initial = None
    if learns and isinstance(found.plan, SpecifiedPlan) and not training.untrainable(loaded):
        tick("building it again")
        initial = training.initial(
            loaded, found.plan, build_with_seed(build, found.plan.output_stride, request.seed + 1)
        )
    if Level.NUMERICS in request.levels:
        try:
            observed = numerics.observe(loaded, found.plan, request.dtypes, tick)
        except CaptureError as error:
            found.evidence = replace(
                found.evidence, aspects=None, counts=None, graph_reason=str(error), numerics_reason=str(error)
            )
            found.reading = None
        else:
            found.evidence = replace(
                found.evidence,
                parameters=observed.parameters,
                unmatched=observed.unmatched,
                steps=observed.steps,
                end_to_end=observed.end_to_end,
                end_to_end_float32=observed.end_to_end_float32,
                lower=observed.lower,
                numerics_reason="this dtype was not asked for",
            )
            found.planted_faults += observed.planted_faults
            if observed.first and observed.smallest:
                found.smallest = (observed.first.origin, observed.smallest)
            found.conditioning = documents.Conditioning(
                output_stride=found.plan.output_stride,
                float32_error=observed.float32_error or 0.0,
                float32_ratio=observed.float32_ratio,
                float64_error=observed.float64_error,
                covered=observed.covered,
                operations=observed.operations,
            )
    if Level.INTERFACE in request.levels:
        _compare(found, module, tick)
    if learns and found.reading:
        tick("training")
        trained = training.trained(loaded, found.plan, initial)
        found.evidence = replace(found.evidence, trained=trained)
        found.required |= required.of_training(loaded.expected)
        found.planted_faults += of_training(trained)
    if found.reading and isinstance(found.plan, SpecifiedPlan):
        tick("explaining what differs")
        found.explained = explained(found.plan, reading)

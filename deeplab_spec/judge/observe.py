"""Observes a candidate at one output stride, level by level: interface, structure, numerics, training."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from deeplab_spec.align.canonical import canonical, digest
from deeplab_spec.align.counts import block_counts
from deeplab_spec.align.differences import aspects
from deeplab_spec.align.identify import Key
from deeplab_spec.align.lock import Lock
from deeplab_spec.capture.candidate.module import ModuleCandidate, local
from deeplab_spec.capture.capture import Candidate
from deeplab_spec.capture.fx.module import check_runnable, state_of
from deeplab_spec.errors import CaptureError, TargetError
from deeplab_spec.execute.torch_settings import float32_products
from deeplab_spec.judge import certificate as documents
from deeplab_spec.judge import expected
from deeplab_spec.judge.evidence import Evidence, PlantedFault
from deeplab_spec.judge.interface import observe as interface
from deeplab_spec.judge.interface.planted import of_calls, of_comparisons, of_values
from deeplab_spec.judge.load_weights import UNMATCHED
from deeplab_spec.judge.numerics import observe as numerics
from deeplab_spec.judge.numerics.draws import Draws
from deeplab_spec.judge.numerics.steps import Loaded
from deeplab_spec.judge.part import INSIDE, PartCandidate, channels_read, part_inside
from deeplab_spec.judge.plan import Limits, Plan, SpecifiedPlan, against, plan
from deeplab_spec.judge.precision.run import moved
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.structure import observe as structure
from deeplab_spec.judge.structure.causes import causes
from deeplab_spec.judge.structure.check import by_clause
from deeplab_spec.judge.structure.explanation import Explained, Explanation
from deeplab_spec.judge.structure.observe import Reading
from deeplab_spec.judge.structure.planted import of_graphs
from deeplab_spec.judge.training import observe as training
from deeplab_spec.judge.training.evidence import Initial
from deeplab_spec.judge.training.initial_weights import EXISTED
from deeplab_spec.judge.training.oracle import TrainingOracle
from deeplab_spec.judge.training.planted import of_training
from deeplab_spec.precision import FLOAT64
from deeplab_spec.spec.clauses import Level
from deeplab_spec.views.progress import Progress

Builder = Callable[[int, int], nn.Module]
"""Builds the candidate for an output stride, with a seed: a candidate, or a module of this process."""

ReferenceReader = Callable[[int], Lock]
"""Reads the other network for an output stride."""

Evaluations = Callable[[Candidate, interface.Oracle | None], None]
"""Compares evaluations of a candidate that must agree, with its present weights."""

Tick = Callable[[str], None]
"""Called with the name of the next stage."""


@dataclass(slots=True, kw_only=True)
class AtStride:
    """What was observed at one output stride.

    Attributes:
        plan: The network that the candidate is judged against, and the sizes to judge it with.
        evidence: What the checks decide from.
        image: Height and width of the image at which the graph was captured.
        reading: The captured graph, aligned with the expected one; None if there is none.
        smallest: The first node that differs, and the smallest input on which it does.
        conditioning: How well the drawn weights separate faults from rounding.
        explanation: Finds what explains the differences.
        explained: What explains the differences.
        causes: What differences follow from, in words.
        subject: What was judged, and what the expected number of decisions depends on.
        required: The expected number of decisions by clause.
        planted_faults: The faults that the checks must refuse.
        versions: The versions of Python and PyTorch in the candidate's process; empty for this one.
        found: Where the judged part was found in a whole network; None if the candidate is that part.
        head: What was observed of the head of a network of another architecture; None if it has none of this family.
    """

    plan: Plan
    evidence: Evidence
    subject: documents.Subject
    image: tuple[int, int] | None = None
    reading: Reading | None = None
    smallest: tuple[str, documents.SmallestInput] | None = None
    conditioning: documents.Conditioning | None = None
    explanation: Explanation | None = None
    explained: Explained = field(default_factory=Explained)
    causes: Mapping[Key, str] = field(default_factory=dict)
    required: dict[str, int] = field(default_factory=dict)
    planted_faults: list[PlantedFault] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    found: documents.PartPlace | None = None
    head: "AtStride | None" = None

    def add(self, **evidence: Any) -> None:  # noqa: ANN401 - fields of the evidence
        """Add evidence."""
        self.evidence = replace(self.evidence, **evidence)

    def note(self, **facts: Any) -> None:  # noqa: ANN401 - fields of the subject
        """Note facts about what was judged."""
        self.subject = self.subject.model_copy(update=facts)

    def judges(self, level: Level) -> bool:
        """Tell whether a level is requested."""
        return level in self.plan.request.levels


def head_request(request: Request) -> Request | None:
    """Return the request for the head of a whole network; None without a published one, or without a level for it."""
    if request.part or request.against:
        return None
    levels = tuple(level for level in request.levels if level in {Level.STRUCTURE, Level.NUMERICS})
    return replace(request, part="head", levels=levels) if levels else None


class Stages:
    """Reports the stages of a run as progress."""

    PER_STRIDE = 30

    def __init__(self, progress: Progress, strides: int) -> None:
        self.progress = progress
        self.total = self.PER_STRIDE * strides
        self.count = 0

    def tick(self, prefix: str) -> Tick:
        """Return a function that reports the next stage, with a prefix."""

        def report(stage: str) -> None:
            self.progress(f"{prefix}: {stage}", min(self.count, self.total), self.total)
            self.count += 1

        return report

    def done(self) -> None:
        """Report that all stages are done."""
        self.progress("done", self.total, self.total)


def observe(
    request: Request, output_stride: int, build: Builder, references: ReferenceReader | None, stages: Stages
) -> AtStride:
    """Observe a candidate at one output stride.

    Args:
        request: What is judged, against what, and how.
        output_stride: The output stride to build the candidate with.
        build: Builds the candidate; its errors are not caught here.
        references: Reads the other network; None to judge against the specification.
        stages: Reports progress.

    Raises:
        TargetError: If a file is to run on a device that its runtime does not support.
    """
    tick = stages.tick(f"output stride {output_stride}")
    tick("building")
    with closing(build_with_seed(build, output_stride, request.seed)) as built, idle_thread() as beside:
        weights = built.weights_digest()
        check_runnable(built)
        module = part_inside(built, request, output_stride) or built
        observed = _observed(request, output_stride, module, build, references, stages, beside)
        of_head = head_request(request)
        if observed.evidence.other_architecture and of_head:
            head = part_inside(built, of_head, output_stride)
            if head:
                observed.head = _observed(of_head, output_stride, head, build, references, stages, beside)
        for each in (observed, observed.head):
            if each:
                each.note(weights=weights)
                each.required = expected.of_subject(each.plan, each.subject)
        return observed


def _observed(
    request: Request,
    output_stride: int,
    module: Candidate,
    build: Builder,
    references: ReferenceReader | None,
    stages: Stages,
    beside: Executor,
) -> AtStride:
    """Observe a candidate that was built, level by level."""
    tick = stages.tick(f"output stride {output_stride}")
    if request.device != "cpu" and module.float32_only:
        raise TargetError(f"--device {request.device}", "the runtime of a file runs on the CPU only")
    limits = structure.limits_of(module)
    if request.part:
        limits = replace(
            limits, channels=limits.channels or channels_read(module, plan(request, output_stride, limits))
        )
    observed = _planned(request, output_stride, limits, references)
    versions = module.remote.connection.versions
    observed.versions = {f"candidate_{name}": version for name, version in versions.items()}
    inside = isinstance(module, PartCandidate)
    if isinstance(module, PartCandidate):
        observed.found = module.place
        observed.add(inside=INSIDE)
    draws = Draws(observed.plan, beside)
    tick("reading the graph")
    _observe_structure(observed, module, draws)
    if observed.evidence.other_architecture and set(request.levels) != {Level.INTERFACE}:
        return observed
    built = {
        name: tensor.clone() if tensor.dtype is torch.float64 else tensor for name, tensor in module.tensors.items()
    }
    loaded = numerics.prepare(module, observed.reading) if observed.reading else None
    initial = _initial_weights(observed, loaded, built, build, tick, beside) if loaded else None
    del built
    evaluations = (
        None if inside or Level.INTERFACE not in request.levels else partial(_compare_evaluations, observed, tick)
    )
    if loaded and not loaded.unmatched and evaluations:
        first = interface.with_first_weights(module, loaded.expected, loaded.places, observed.plan)
        observed.add(comparisons=first)
    weights: Mapping[str, Tensor] | None = None
    if loaded and Level.NUMERICS in request.levels:
        weights = _observe_numerics(observed, loaded, draws, evaluations, tick)
        loaded = loaded if observed.reading else None  # without the graph that it was matched through
    elif not loaded and not observed.evidence.other_architecture:
        loaded = numerics.prepare_without_graph(module, observed.plan)
        if loaded and Level.NUMERICS in request.levels:
            weights = _observe_whole_runs(observed, loaded, draws, evaluations, tick)
    trainable = loaded if Level.TRAINING in request.levels and observed.reading else None
    oracle = training.begin(trainable, observed.plan, beside) if trainable else None
    if evaluations:
        _observe_interface(observed, module, loaded, weights, stages, tick)
    del weights  # large, and not those of the training
    if trainable:
        _observe_training(observed, trainable, initial and initial(), oracle, tick)
    if observed.reading and observed.explanation:
        tick("explaining what differs")
        observed.explained = observed.explanation.explained()
    return observed


@contextmanager
def idle_thread() -> Iterator[Executor]:
    """Return a thread that works where a processor is idle, on Linux; what it has not begun at the end is dropped."""

    def give_way() -> None:
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)

    thread = ThreadPoolExecutor(1, initializer=give_way)
    try:
        yield thread
    finally:
        thread.shutdown(cancel_futures=True)


def build_with_seed(build: Builder, output_stride: int, seed: int) -> Candidate:
    """Build a candidate with a seed, so that its random initial weights are the same in another run."""
    with torch.random.fork_rng(devices=[]), float32_products(tf32=False):
        torch.manual_seed(seed)
        built = build(output_stride, seed)
        return built if isinstance(built, Candidate) else local(built)


def _planned(request: Request, output_stride: int, limits: Limits, references: ReferenceReader | None) -> AtStride:
    if references:
        planned: Plan = against(request, references(output_stride), limits)
    else:
        planned = plan(request, output_stride, limits)
    evidence = Evidence(
        output_stride=output_stride,
        part=request.part,
        named_results=planned.named_results,
        fixed_size=bool(limits.sides),
        fixed_batch=limits.batch is not None,
    )
    subject = documents.Subject(
        output_stride=output_stride,
        sides=limits.sides,
        batch=limits.batch,
        channels=limits.channels if request.part else (),
    )
    return AtStride(plan=planned, evidence=evidence, subject=subject)


def _observe_interface(
    observed: AtStride,
    module: Candidate,
    loaded: Loaded | None,
    weights: Mapping[str, Tensor] | None,
    stages: Stages,
    tick: Tick,
) -> None:
    """Call the candidate in every way; compare its values with the specification's, and evaluations that must agree."""
    plan = observed.plan
    oracle = None
    if loaded is None:
        observed.add(values_reason=observed.evidence.graph_reason or observed.evidence.other_architecture)
    elif loaded.unmatched:
        observed.add(values_reason=UNMATCHED)
    else:
        tick("drawing weights for its calls")
        weights = weights or numerics.load_drawn(loaded, plan)
        oracle = interface.Oracle(loaded.expected, weights)
    if not any(comparison.purpose == "repeat" for comparison in observed.evidence.comparisons):
        _compare_evaluations(observed, tick, module, oracle)
    observed.planted_faults += of_calls(plan)
    device = torch.device(plan.request.device)
    module.float()
    with moved(module, device):
        calls = interface.calls(
            module, plan, stages.tick(f"output stride {plan.output_stride}, interface"), device, oracle
        )
    observed.add(calls=calls)
    further = 1 + module.copyable + module.repeatable if isinstance(module, ModuleCandidate) else 0
    exact = sum(comparison.purpose == "values" for comparison in observed.evidence.comparisons)
    observed.note(calls=(further, exact))
    observed.planted_faults += of_values(calls)


def _compare_evaluations(observed: AtStride, tick: Tick, module: Candidate, oracle: interface.Oracle | None) -> None:
    """Compare evaluations that must agree, in the largest precision that the candidate runs in."""
    plan = observed.plan
    dtype = torch.float32 if module.float32_only else torch.float64
    device = torch.device(plan.request.device)
    module.to(dtype)
    with moved(module, device):
        comparisons = interface.comparisons(module, plan, dtype, tick, device, oracle)
    observed.add(comparisons=(*observed.evidence.comparisons, *comparisons))
    observed.planted_faults += of_comparisons(plan, dtype)


def _observe_structure(observed: AtStride, module: Candidate, draws: Draws) -> None:
    """Capture the candidate's graph, and compare it with the expected one; begin to draw weights for its values."""
    if observed.judges(Level.NUMERICS):
        draws.begin(observed.plan.telling[0])
    try:
        reading = structure.read(module, observed.plan)
    except CaptureError as error:
        observed.add(graph_reason=str(error), numerics_reason=str(error))
        return
    if isinstance(observed.plan, SpecifiedPlan):
        observed.explanation = Explanation(plan=observed.plan, reading=reading)
        reading = observed.explanation.reading
    observed.reading, observed.image = reading, reading.image
    shared_family = None if reading.other_architecture else reading.alignment
    observed.note(graph=digest(canonical(reading.alignment.candidate, shared_family)))
    unstrided = observed.plan.unstrided
    observed.add(
        aspects=by_clause(aspects(reading.alignment), unstrided),
        counts=block_counts(reading.alignment, reading.shared),
        folded=reading.folded,
        other_architecture=reading.other_architecture or "",
        folded_convs=reading.folded_convs,
    )
    if reading.other_architecture:
        return
    if observed.judges(Level.NUMERICS):
        draws.begin_steps(reading.image)
    observed.causes = causes(reading.alignment)
    observed.note(image=reading.image, folded=reading.folded, norms=tuple(sorted(reading.norms)))
    compared = reading.compared(observed.plan.expected(reading.image))
    if observed.judges(Level.STRUCTURE):
        facts = expected.facts(compared.network, unstrided)
        observed.planted_faults += of_graphs(compared, reading, facts, unstrided)


def _initial_weights(
    observed: AtStride, loaded: Loaded, built: Mapping[str, Tensor], build: Builder, tick: Tick, beside: Executor
) -> Callable[[], Initial] | None:
    """Sample the weights that the candidate was built with, beside what follows; return a function that waits."""
    plan = observed.plan
    if not observed.judges(Level.TRAINING) or not isinstance(plan, SpecifiedPlan) or training.untrainable(loaded):
        return None
    if plan.request.existing:
        return partial(Initial, not_applicable=EXISTED)
    tick("building it again")
    seed = plan.request.seed + 1
    module = loaded.module
    try:
        if isinstance(module, ModuleCandidate) and module.repeatable:
            again: Candidate = module.again(seed)
        else:
            again = build_with_seed(build, plan.output_stride, seed)
    except TargetError as error:
        return partial(Initial, undecided=f"it cannot be built a second time: {error.reason}")
    again.remote.drop()
    folded = loaded.reading.folded_convs
    drawn = [place for place in loaded.places if place.source.rpartition(".")[0] not in folded]
    return beside.submit(training.initial_weights, drawn, plan, built, state_of(again)).result


def _observe_numerics(
    observed: AtStride, loaded: Loaded, draws: Draws, evaluations: Evaluations | None, tick: Tick
) -> Mapping[str, Tensor] | None:
    """Compare the candidate's values with the oracle's; return the weights that it has at the end."""
    try:
        inside = bool(observed.evidence.inside)
        dtypes = [each for each in observed.plan.request.dtypes if not inside or each == FLOAT64.name]
        found = numerics.observe(loaded, observed.plan, dtypes, tick, draws, evaluations)
    except CaptureError as error:
        observed.add(aspects=None, counts=None, graph_reason=str(error), numerics_reason=str(error))
        observed.reading = None
        return None
    observed.add(
        parameters=found.parameters,
        unmatched=found.unmatched,
        steps=found.steps,
        end_to_end=found.end_to_end,
        end_to_end_float32=found.end_to_end_float32,
        lower=found.lower,
        numerics_reason="this dtype was not requested",
    )
    observed.planted_faults += found.planted_faults
    if found.first and found.smallest:
        observed.smallest = (found.first.origin, found.smallest)
    observed.conditioning = documents.Conditioning(
        output_stride=observed.plan.output_stride,
        float32_error=found.float32_error or 0.0,
        float32_ratio=found.float32_ratio,
        float64_error=found.float64_error,
        covered=found.covered,
        operations=found.operations,
    )
    return found.weights


def _observe_whole_runs(
    observed: AtStride, loaded: Loaded, draws: Draws, evaluations: Evaluations | None, tick: Tick
) -> Mapping[str, Tensor]:
    """Compare the results of a candidate whose graph cannot be read; return the weights that it has at the end."""
    plan = observed.plan
    found = numerics.observe(loaded, plan, plan.request.dtypes, tick, draws, evaluations, graph=False)
    observed.add(end_to_end=found.end_to_end, end_to_end_float32=found.end_to_end_float32)
    observed.planted_faults += found.planted_faults
    observed.note(whole_runs=True)
    return found.weights


def _observe_training(
    observed: AtStride, loaded: Loaded, initial: Initial | None, oracle: TrainingOracle | None, tick: Tick
) -> None:
    """Train the candidate for two steps; its weights are overwritten."""
    tick("training")
    trained = training.train_candidate(loaded, observed.plan, initial, oracle)
    observed.add(trained=trained)
    observed.note(trained=True)
    observed.planted_faults += of_training(trained)

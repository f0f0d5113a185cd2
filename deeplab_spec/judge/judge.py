"""Judges a candidate at every output stride, and writes the certificate."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import torch
from torch import nn

from deeplab_spec.align.counts import block_counts
from deeplab_spec.align.differences import aspects
from deeplab_spec.capture.artefact import Artefact
from deeplab_spec.capture.module import original
from deeplab_spec.checks import certificate as documents
from deeplab_spec.checks.catalogue import CHECKS
from deeplab_spec.checks.evidence import Comparison, Evidence
from deeplab_spec.checks.structure import by_clause
from deeplab_spec.checks.verdicts import Decision, Finding, Verdict, of_run, together
from deeplab_spec.errors import CaptureError
from deeplab_spec.judge import interface, numerics, structure
from deeplab_spec.judge.explanation import Explained, explained
from deeplab_spec.judge.plan import Plan, SpecifiedPlan, plan
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.standard import Standard, against
from deeplab_spec.judge.structure import Reading
from deeplab_spec.spec.choices import plain
from deeplab_spec.spec.clauses import Clause, Level, clauses_of

Builder = Callable[[int], nn.Module]
"""Builds the candidate for an output stride."""

Standards = Callable[[int], Standard]
"""Reads the other network for an output stride."""

Progress = Callable[[str, int, int], None]
"""Told the stage, how many are done, and how many there are."""


END_TO_END: Final = frozenset({"VALUES-END-TO-END", "VALUES-FLOAT32"})
"""Clauses about whole runs: their findings name the node that a step shows, or none."""


@dataclass(slots=True, kw_only=True)
class _Stride:
    """What was found at one output stride."""

    plan: Plan
    evidence: Evidence
    image: tuple[int, int] | None = None
    reading: Reading | None = None
    stranger: str | None = None
    conditioning: documents.Conditioning | None = None
    explained: Explained = field(default_factory=Explained)


def judge(
    request: Request, build: Builder, progress: Progress, standards: Standards | None = None
) -> documents.Certificate:
    """Judge a candidate.

    Args:
        request: What is asked.
        build: Builds the candidate; its errors are not caught here.
        progress: Told how far the judgement is.
        standards: Reads the network that it is held against, where that is not the specification.
    """
    started = time.monotonic()
    stages = _Stages(progress, len(request.strides))
    strides = [_observe(request, output_stride, build, standards, stages) for output_stride in request.strides]
    clauses = [clause for clause in clauses_of(request.part) if clause.level in request.levels]
    decided = [_record(clause, strides) for clause in clauses]
    stages.done()
    return _certificate(request, strides, decided, time.monotonic() - started)


class _Stages:
    """Counts the stages of a run."""

    PER_STRIDE = 16

    def __init__(self, progress: Progress, strides: int) -> None:
        self.progress = progress
        self.total = self.PER_STRIDE * strides
        self.count = 0

    def tick(self, prefix: str) -> Callable[[str], None]:
        def told(what: str) -> None:
            self.progress(f"{prefix}: {what}", min(self.count, self.total), self.total)
            self.count += 1

        return told

    def done(self) -> None:
        self.progress("done", self.total, self.total)


def _observe(
    request: Request, output_stride: int, build: Builder, standards: Standards | None, stages: _Stages
) -> _Stride:
    tick = stages.tick(f"output stride {output_stride}")
    tick("building")
    running = build(output_stride).eval()
    module = original(running)
    limits = structure.limits_of(module)
    planned = against(request, standards(output_stride), limits) if standards else plan(request, output_stride, limits)
    found = _Stride(
        plan=planned,
        evidence=Evidence(
            output_stride=output_stride,
            part=request.part,
            fixed_size=bool(limits.sides),
            fixed_batch=limits.batch is not None,
        ),
    )
    needs_graph = Level.STRUCTURE in request.levels or Level.NUMERICS in request.levels
    if needs_graph:
        tick("reading the graph")
        _read(found, module)
        if found.stranger:
            return found
    if Level.INTERFACE in request.levels:
        tick_call = stages.tick(f"output stride {output_stride}, interface")
        found.evidence = replace(found.evidence, calls=interface.calls(module, planned, tick_call))
    if found.reading:
        _run(found, found.reading, module, running, request, tick)
    elif Level.INTERFACE in request.levels:
        found.evidence = replace(found.evidence, comparisons=_comparisons(module, planned, tick))
    return found


def _comparisons(module: nn.Module, planned: Plan, tick: Callable[[str], None]) -> tuple[Comparison, ...]:
    """Compare evaluations that must agree, in the dtype that tells most of those that the candidate runs in."""
    if isinstance(module, Artefact) and module.single:
        return interface.comparisons(module.float(), planned, torch.float32, tick)
    return interface.comparisons(module.double(), planned, torch.float64, tick)


def _read(found: _Stride, module: nn.Module) -> None:
    try:
        reading = structure.read(module, found.plan)
    except CaptureError as error:
        found.evidence = replace(found.evidence, graph_reason=str(error), numerics_reason=str(error))
        return
    found.reading, found.stranger, found.image = reading, reading.stranger, reading.image
    found.evidence = replace(
        found.evidence,
        aspects=by_clause(aspects(reading.alignment), structure.unstrided_blocks(found.plan.network)),
        counts=block_counts(reading.alignment, reading.shared),
        folded=reading.folded,
    )


def _run(
    found: _Stride,
    reading: Reading,
    module: nn.Module,
    running: nn.Module,
    request: Request,
    tick: Callable[[str], None],
) -> None:
    """Run the candidate with drawn weights: for the numerics, and for comparisons at the interface."""
    loaded = numerics.prepare(module, running, reading)
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
                misfits=observed.misfits,
                steps=observed.steps,
                ends=observed.ends,
                ends_float32=observed.ends_float32,
                numerics_reason="this dtype was not asked for",
            )
            found.conditioning = documents.Conditioning(
                output_stride=found.plan.output_stride,
                float32_error=observed.float32_error or 0.0,
                covered=observed.covered,
                operations=observed.operations,
            )
    if Level.INTERFACE in request.levels:
        found.evidence = replace(found.evidence, comparisons=_comparisons(module, found.plan, tick))
    if found.reading and isinstance(found.plan, SpecifiedPlan):
        tick("explaining what differs")
        found.explained = explained(found.plan, reading)


def _record(clause: Clause, strides: Sequence[_Stride]) -> documents.ClauseRecord:
    """Decide one clause at every output stride, and put the decisions together."""
    decisions = [_decide(clause, stride) for stride in strides]
    findings = tuple(
        _finding(stride, finding)
        for stride, decision in zip(strides, decisions, strict=True)
        for finding in decision.findings
    )
    verdict = together(decision.verdict for decision in decisions)
    reasons = [
        decision.undecided or decision.not_applicable or "nothing was decided"
        for decision in decisions
        if decision.verdict is verdict and verdict in {Verdict.UNDECIDED, Verdict.NOT_APPLICABLE}
    ]
    return documents.ClauseRecord(
        id=clause.id,
        level=clause.level.value,
        verdict=verdict,
        decisions=sum(decision.decisions for decision in decisions),
        reason=next(iter(reasons), ""),
        findings=findings,
    )


def _decide(clause: Clause, stride: _Stride) -> Decision:
    if not stride.stranger:
        return CHECKS[clause.id](stride.evidence)
    if clause.id != "SAME-FAMILY":
        return Decision(undecided="this is another network")
    finding = Finding(
        path="input",
        candidate_path=None,
        attribute="network",
        expected=f"a network of the family of {stride.plan.request.standard}",
        actual=stride.stranger,
        output_stride=stride.plan.output_stride,
    )
    return Decision(findings=(finding,), decisions=1)


def _finding(stride: _Stride, finding: Finding) -> documents.FindingRecord:
    choice, hint = stride.explained.of(finding)
    return documents.FindingRecord(
        path=finding.path,
        candidate_path=finding.candidate_path,
        attribute=finding.attribute,
        choice=choice,
        expected=documents.as_json(finding.expected),
        actual=documents.as_json(finding.actual),
        hint=hint,
        output_stride=finding.output_stride,
    )


def _certificate(
    request: Request, strides: Sequence[_Stride], clauses: Sequence[documents.ClauseRecord], seconds: float
) -> documents.Certificate:
    levels = {
        level.value: together(clause.verdict for clause in clauses if clause.level == level.value)
        for level in request.levels
    }
    stranger = next((stride.stranger for stride in strides if stride.stranger), None)
    first = _first_divergence(strides, clauses)
    return documents.Certificate(
        target=request.target,
        variant=request.variant,
        against=request.against,
        choices={name: plain(value) for name, value in request.decided.items()},
        part=request.part,
        classes=request.class_count,
        seed=request.seed,
        verdict=of_run(clause.verdict for clause in clauses),
        levels=levels,
        cases=tuple(case for stride in strides for case in _cases(stride, request)),
        clauses=tuple(clauses),
        nearest=None if stranger or request.against else _nearest(request, strides, clauses),
        first_divergence=first,
        first_divergence_reason="" if first else _no_node(clauses),
        conditioning=tuple(stride.conditioning for stride in strides if stride.conditioning),
        counts=tuple(counts for stride in strides for counts in _counts(stride)),
        another_network=stranger,
        versions={"torch": torch.__version__, "python": platform.python_version()},
        seconds=round(seconds, 1),
    )


def _counts(stride: _Stride) -> list[documents.Counts]:
    """Return what the network costs on both sides, and the blocks that cost something else."""
    blocks = stride.evidence.counts
    if blocks is None or stride.image is None:
        return []
    sums = [
        (
            block.path,
            (block.parameters.expected, block.parameters.actual),
            (block.multiply_adds.expected, block.multiply_adds.actual),
        )
        for block in blocks
    ]
    return [
        documents.Counts(
            output_stride=stride.plan.output_stride,
            size=stride.image,
            parameters=(sum(entry[1][0] for entry in sums), sum(entry[1][1] for entry in sums)),
            macs=(sum(entry[2][0] for entry in sums), sum(entry[2][1] for entry in sums)),
            differing=tuple(
                documents.BlockCounts(path=path, parameters=parameters, macs=macs)
                for path, parameters, macs in sums
                if parameters[0] != parameters[1] or macs[0] != macs[1]
            ),
        )
    ]


def _cases(stride: _Stride, request: Request) -> list[documents.Case]:
    dtypes = request.dtypes if Level.NUMERICS in request.levels else ("float32",)
    sizes = sorted({(call.inputs[0][-2], call.inputs[0][-1]) for call in stride.evidence.calls if call.legal})
    found = [*([stride.image] if stride.image else []), *sizes]
    return [
        documents.Case(output_stride=stride.plan.output_stride, sizes=tuple(found), dtype=dtype, device="cpu")
        for dtype in dtypes
    ]


def _nearest(
    request: Request, strides: Sequence[_Stride], clauses: Sequence[documents.ClauseRecord]
) -> documents.Nearest | None:
    """Join the decisions found at each output stride; the one with most to explain speaks first."""
    read = [stride for stride in strides if stride.reading]
    if not read:
        return None
    read.sort(key=lambda stride: -len(stride.explained.overrides))
    name = read[0].explained.variant or request.standard
    found: dict[str, documents.Json] = {}
    for stride in read:
        if (stride.explained.variant or request.standard) == name:
            found = {**{key: plain(value) for key, value in stride.explained.overrides.items()}, **found}
    sizes = next((clause for clause in clauses if clause.id == "SIZES-ACCEPTED"), None)
    if sizes and any(finding.choice == "sizes_accepted" for finding in sizes.findings):
        found["sizes_accepted"] = "multiples_of_output_stride"
    return documents.Nearest(variant=name, choices=found)


def _first_divergence(strides: Sequence[_Stride], clauses: Sequence[documents.ClauseRecord]) -> documents.Place | None:
    """Return the first node, in the order of the alignment, that a finding names."""
    positions: Mapping[str, int] = {}
    for stride in strides:
        if stride.reading:
            pairs = stride.reading.alignment.pairs
            positions = {left: number for number, (left, _) in enumerate(pairs) if left is not None}
            break
    findings = [
        finding
        for clause in clauses
        if clause.level != Level.INTERFACE.value and clause.id not in END_TO_END
        for finding in clause.findings
        if finding.path in positions
    ]
    first = min(findings, key=lambda finding: positions[finding.path], default=None)
    return documents.Place(path=first.path, candidate_path=first.candidate_path) if first else None


def _no_node(clauses: Sequence[documents.ClauseRecord]) -> str:
    """Say why no node is named, where only whole runs differ."""
    failed = [clause.id for clause in clauses if clause.id in END_TO_END and clause.findings]
    if not failed:
        return ""
    return "every node computes what is specified; what runs them together, a compiler or a runtime, does not"

"""Judges a candidate at every output stride, and writes the certificate."""

import platform
import time
from collections.abc import Sequence

import torch

from deeplab_spec.execute.torch_settings import float32_products
from deeplab_spec.judge import certificate as documents
from deeplab_spec.judge.decisions import Judged, judged
from deeplab_spec.judge.finding import Finding, Json, Verdict, of_run, together
from deeplab_spec.judge.numerics.divergence import first_divergence, no_node
from deeplab_spec.judge.observe import AtStride, Builder, Stages, Standards, observe
from deeplab_spec.judge.precision.run import device_of, where
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.training.check import decisions
from deeplab_spec.spec.choices import plain
from deeplab_spec.spec.clauses import Clause, Level
from deeplab_spec.spec.variants import variant
from deeplab_spec.views.progress import Progress

_Recorded = tuple[documents.ClauseRecord, documents.Canaries]


def judge(
    request: Request, build: Builder, progress: Progress, standards: Standards | None = None
) -> documents.Certificate:
    """Judge a candidate.

    Args:
        request: What is asked.
        build: Builds the candidate; its errors are not caught here.
        progress: Told how far the judgement is.
        standards: Reads the network that it is held against, where that is not the specification.

    Raises:
        TargetError: If the device that is asked for is not there.
    """
    started = time.monotonic()
    device_of(request.device)
    stages = Stages(progress, len(request.strides))
    with float32_products(tf32=False):
        strides = [observe(request, output_stride, build, standards, stages) for output_stride in request.strides]
    recorded = [_record(clause, strides) for clause in request.clauses]
    stages.done()
    canaries = documents.Canaries(
        planted=sum(entry.planted for _, entry in recorded), killed=sum(entry.killed for _, entry in recorded)
    )
    decided = [record for record, _ in recorded]
    return _certificate(request, strides, decided, canaries, time.monotonic() - started)


def _record(clause: Clause, strides: Sequence[AtStride]) -> _Recorded:
    """Decide one clause at every output stride, and put the decisions together."""
    found = [_judged(clause, stride) for stride in strides]
    decisions = [entry.decision for entry in found]
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
    record = documents.ClauseRecord(
        id=clause.id,
        level=clause.level.value,
        verdict=verdict,
        decisions=sum(decision.decisions for decision in decisions),
        required=sum(entry.required for entry in found),
        reason=next(iter(reasons), ""),
        findings=findings,
    )
    planted, killed = sum(entry.planted for entry in found), sum(entry.killed for entry in found)
    return record, documents.Canaries(planted=planted, killed=killed)


def _judged(clause: Clause, stride: AtStride) -> Judged:
    planted_faults = [fault for fault in stride.planted_faults if fault.clause == clause.id]
    standard = stride.plan.request.standard
    return judged(clause.id, stride.evidence, standard, stride.required.get(clause.id), planted_faults)


def _finding(stride: AtStride, finding: Finding) -> Finding:
    choice, hint = stride.explained.of(finding)
    return finding.model_copy(update={"choice": choice, "hint": hint})


def _certificate(
    request: Request,
    strides: Sequence[AtStride],
    clauses: Sequence[documents.ClauseRecord],
    canaries: documents.Canaries,
    seconds: float,
) -> documents.Certificate:
    levels = {
        level.value: together(clause.verdict for clause in clauses if clause.level == level.value)
        for level in request.levels
    }
    stranger = next((stride.evidence.stranger for stride in strides if stride.evidence.stranger), None)
    first = first_divergence(strides, clauses)
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
        first_divergence_reason="" if first else no_node(clauses),
        canaries=canaries,
        conditioning=tuple(stride.conditioning for stride in strides if stride.conditioning),
        counts=tuple(counts for stride in strides for counts in _counts(stride)),
        another_network=stranger,
        versions={"torch": torch.__version__, "python": platform.python_version()},
        seconds=round(seconds, 1),
    )


def _counts(stride: AtStride) -> list[documents.Counts]:
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


def _cases(stride: AtStride, request: Request) -> list[documents.Case]:
    dtypes = request.dtypes if Level.NUMERICS in request.levels else ("float32",)
    sizes = sorted({(call.inputs[0][-2], call.inputs[0][-1]) for call in stride.evidence.calls if call.legal})
    found = [*([stride.image] if stride.image else []), *sizes]
    return [
        documents.Case(
            output_stride=stride.plan.output_stride,
            sizes=tuple(found),
            dtype=dtype,
            device=where(dtype, device_of(request.device)),
        )
        for dtype in dtypes
    ]


def _nearest(
    request: Request, strides: Sequence[AtStride], clauses: Sequence[documents.ClauseRecord]
) -> documents.Nearest | None:
    """Join the decisions found at each output stride; the one with most to explain speaks first."""
    read = [stride for stride in strides if stride.reading]
    if not read:
        return None
    read.sort(key=lambda stride: -len(stride.explained.overrides))
    name = read[0].explained.variant or request.standard
    found: dict[str, Json] = {}
    for stride in read:
        if (stride.explained.variant or request.standard) == name:
            found = {**{key: plain(value) for key, value in stride.explained.overrides.items()}, **found}
    _add_decided_in_training(found, name, read)
    sizes = next((clause for clause in clauses if clause.id == "SIZES-ACCEPTED"), None)
    if sizes and any(finding.choice == "sizes_accepted" for finding in sizes.findings):
        found["sizes_accepted"] = "multiples_of_output_stride"
    return documents.Nearest(variant=name, choices=found)


def _add_decided_in_training(found: dict[str, Json], name: str, strides: Sequence[AtStride]) -> None:
    """Add the decisions that only training shows."""
    published = variant(name).choices
    for stride in strides:
        for choice, value in decisions(stride.evidence.trained).items() if stride.evidence.trained else ():
            if value == getattr(published, choice):
                found.pop(choice, None)
            else:
                found[choice] = plain(value)

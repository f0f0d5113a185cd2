"""Observes a candidate's structure: captures its graph and aligns it with the specification."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.align.counts import block_counts
from deeplab_spec.align.differences import aspects
from deeplab_spec.align.match import Alignment, align
from deeplab_spec.align.network_at_size import Shaped, shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.align.published import different_architecture
from deeplab_spec.capture.capture import Candidate, Capture
from deeplab_spec.capture.fx.module import shared_parameters
from deeplab_spec.errors import CaptureError
from deeplab_spec.execute.tensor_error import relative_error
from deeplab_spec.graph.folding import foldable, folded
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import MAP_RANK, Conv2d, Output, Pair
from deeplab_spec.judge.evidence import Evidence
from deeplab_spec.judge.finding import Finding, Verdict
from deeplab_spec.judge.interface.observe import images
from deeplab_spec.judge.outputs import Answer, call_candidate, choose, double, executed
from deeplab_spec.judge.plan import Limits, Plan, SpecifiedPlan
from deeplab_spec.judge.structure.check import CHECKS, by_clause
from deeplab_spec.judge.structure.nearest_form import nearest_form

RUNTIME: Final = 0.05
"""Largest relative difference between a runtime in float32 and the graph in float64, with the file's weights.

Rounding, amplified over the depth of a random network, stays near 1e-3; a graph that was read wrongly differs by 0.1
or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A candidate's graph, aligned with the expected one.

    Attributes:
        image: Height and width of the image, the same for both.
        capture: The graph, with its outputs named as taps.
        alignment: Both sides in normal form.
        expected: The expected network, as it is executed.
        folded: Whether all normalisations are folded into convolutions on both sides.
        norms: The expected normalisations that are folded on both sides, each with its convolution.
        shared: Paths of nodes whose parameters are those of another node.
        other_architecture: Why the candidate has another architecture; None if it does not.
    """

    image: Pair
    capture: Capture
    alignment: Alignment
    expected: Network
    folded: bool
    norms: Mapping[str, str]
    shared: frozenset[str]
    other_architecture: str | None

    @property
    def folded_convs(self) -> frozenset[str]:
        """Paths of the expected convolutions that a normalisation is folded into."""
        return frozenset(self.norms.values())

    def compared(self, expected: Shaped) -> Shaped:
        """Return a network in the form in which the candidate is compared."""
        return expected.with_network(folded(expected.network, None if self.folded else self.norms))


def read(module: Candidate, plan: Plan) -> Reading:
    """Capture a candidate at a size that shows every rate, and align it.

    A candidate without normalisations is compared with the folded specification.

    Raises:
        CaptureError: If it accepts no such size, or the graph cannot be read.
    """
    image, inputs, captured = _captured(module, plan)
    found = nearest_form(captured, plan, image)
    without_bias = _without_bias(found.alignment)
    if without_bias and module.give_biases({captured.parameters[f"{path}.weight"] for path in without_bias}):
        captured = with_taps(module.read(inputs), plan, image)
        found = nearest_form(captured, plan, image)
    return Reading(
        image=image,
        capture=found.capture,
        alignment=found.alignment,
        expected=folded(plan.network, found.norms),
        folded=found.folded,
        norms={norm: conv for conv, norm in foldable(plan.network) if norm in found.norms},
        shared=frozenset(shared_parameters(module, found.capture)),
        other_architecture=different_architecture(found.alignment),
    )


def _captured(module: Candidate, plan: Plan) -> tuple[Pair, Sequence[Tensor], Capture]:
    """Capture a candidate at the first size that it accepts."""
    error = ""
    for image in plan.telling:
        sizes = plan.inputs_at(image)
        inputs = images(plan, sizes, plan.batch, torch.float32, plan.request.seed)
        try:
            captured = with_taps(module.read(inputs), plan, image)
        except CaptureError:
            answer = call_candidate(module, inputs, plan.taps(sizes, plan.batch))
            if not answer.error:
                raise
            error = error or answer.error
            continue
        if module.float32_only:
            _check_runtime(module, captured, inputs, call_candidate(module, inputs, plan.taps(sizes, plan.batch)))
        return image, inputs, captured
    raise CaptureError(f"the candidate rejects every size that shows the rates: {error}")


def unread(module: Candidate, plan: Plan) -> Reading:
    """Return a reading of a candidate whose graph cannot be read: none of its nodes is known.

    Raises:
        CaptureError: If it accepts no size that shows every rate.
    """
    image = _telling_image(module, plan)
    expected = plan.expected(image)
    return Reading(
        image=image,
        capture=Capture(network=plan.network, shapes={}, parameters={}, steps={}, constants={}),
        alignment=Alignment(expected=expected, candidate=expected, pairs=(), price=0),
        expected=plan.network,
        folded=False,
        norms={},
        shared=frozenset(),
        other_architecture=None,
    )


def _without_bias(alignment: Alignment) -> list[str]:
    """Return the candidate's convolutions in which only the bias of a folded normalisation is missing."""
    expected, candidate = alignment.expected.network, alignment.candidate.network
    return [
        right
        for left, right in alignment.partner.items()
        if isinstance(mine := expected[left].op, Conv2d)
        and isinstance(yours := candidate[right].op, Conv2d)
        and mine.bias
        and not yours.bias
    ]


def limits_of(module: Candidate) -> Limits:
    """Return the sizes that a candidate fixes; only files do."""
    stated = [shape for shape in module.shapes if len(shape) == MAP_RANK]
    sides = [(height, width) for *_, height, width in stated if height is not None and width is not None]
    channels = [shape[1] for shape in stated if shape[1] is not None]
    batches = {shape[0] for shape in stated}
    return Limits(
        sides=tuple(sides) if len(sides) == len(module.shapes) else (),
        batch=batches.pop() if len(batches) == 1 else None,
        channels=tuple(channels) if len(channels) == len(module.shapes) else (),
    )


def _telling_image(module: Candidate, plan: Plan) -> Pair:
    """Return the first image size that shows the rates and that a candidate accepts."""
    error = ""
    for image in plan.telling:
        sizes = plan.inputs_at(image)
        inputs = images(plan, sizes, plan.batch, torch.float32, plan.request.seed)
        answer = call_candidate(module, inputs, plan.taps(sizes, plan.batch))
        if not answer.error:
            return image
        error = error or answer.error
    raise CaptureError(f"the candidate rejects every size that shows the rates: {error}")


def _check_runtime(module: Candidate, captured: Capture, inputs: Sequence[Tensor], answer: Answer) -> None:
    """Compare a file's runtime in float32, with the file's weights, with its graph in float64."""
    if answer.error:
        raise CaptureError(f"its runtime refuses it: {answer.error}")
    values = executed(captured, {name: double(tensor) for name, tensor in module.tensors.items()}, inputs)
    for node in captured.network.outputs:
        tap = _name(node)
        off = relative_error(answer.results[tap], values[node.path]) if tap in answer.results else 0.0
        if not off <= RUNTIME:
            raise CaptureError(f"its captured graph is off by {off:.2g} from what its runtime computes")


def with_taps(captured: Capture, plan: Plan, image: Pair) -> Capture:
    """Name the outputs after their taps, and drop the others."""
    expected = plan.taps(plan.inputs_at(image), plan.batch)
    outputs = {node.path: captured.shapes[node.path] for node in captured.network.outputs}
    chosen = choose([(_name(captured.network[path]), shape) for path, shape in outputs.items()], expected)
    taps = {name: tap for tap, name in chosen.items()}
    nodes = []
    for node in captured.network:
        if not isinstance(node.op, Output):
            nodes.append(node)
        elif _name(node) in taps:
            nodes.append(replace(node, op=Output(name=taps[_name(node)])))
    if not chosen:
        raise CaptureError("the candidate returns no tensor")
    return replace(captured, network=Network(nodes=tuple(nodes)))


def _name(node: Node) -> str:
    return node.op.name if isinstance(node.op, Output) else ""


def first_finding(alignment: Alignment, findings: Iterable[Finding]) -> Finding | None:
    """Return the finding that comes first in the order of an alignment; None if no finding names a node of it.

    Missing nodes come before the extra nodes in their position.
    """
    positions: dict[str | None, tuple[int, int]] = {None: (0, 0)}
    extra: dict[str | None, tuple[int, int]] = {}
    run = 0
    for number, (left, right) in enumerate(alignment.pairs):
        run = number if None not in (left, right) or number == 0 or None not in alignment.pairs[number - 1] else run
        positions.setdefault(left, (run, number))
        if left is None:
            extra[right] = (run, number + len(alignment.pairs))
    del positions[None]

    def position(finding: Finding) -> tuple[int, int]:
        return extra.get(finding.candidate_path) or positions[finding.path]

    return min((finding for finding in findings if finding.path in positions), key=position, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphResult:
    """Which clauses of the structure a graph fails.

    Attributes:
        failed: Ids of the failed clauses, in the order of the clause list.
        first: The first finding along the alignment; None if there is none.
        reason: The first finding of the first failed clause.
    """

    failed: tuple[str, ...]
    first: Finding | None
    reason: Finding | None = None


def decide_graph(plan: SpecifiedPlan, candidate: Network, image: Pair) -> GraphResult:
    """Decide the clauses of the structure for a network that is only a graph, at an image's size; nothing is run.

    Raises:
        GraphError: If the shapes in the candidate do not fit together.
    """
    alignment = align(plan.expected(image), normal_form(shaped(candidate.live(), plan.inputs_at(image))))
    return _decided(plan, alignment, Evidence(output_stride=plan.output_stride, part=None))


def decide_reading(plan: SpecifiedPlan, reading: Reading) -> GraphResult:
    """Decide the clauses of the structure for the graph of a candidate, as it was read.

    Args:
        plan: The specification.
        reading: The candidate's graph.
    """
    evidence = Evidence(
        output_stride=plan.output_stride,
        part=None,
        folded=reading.folded,
        folded_convs=reading.folded_convs,
        other_architecture=reading.other_architecture or "",
    )
    return _decided(plan, reading.alignment, evidence, reading.shared)


def _decided(
    plan: SpecifiedPlan, alignment: Alignment, known: Evidence, shared: frozenset[str] = frozenset()
) -> GraphResult:
    evidence = replace(
        known, aspects=by_clause(aspects(alignment), plan.unstrided), counts=block_counts(alignment, shared)
    )
    decisions = {name: check(evidence) for name, check in CHECKS.items()}
    failed = {name: decision.findings for name, decision in decisions.items() if decision.verdict is Verdict.FAILED}
    findings = [finding for decision in decisions.values() for finding in decision.findings]
    reasons = next(iter(failed.values()), ())
    return GraphResult(failed=tuple(failed), first=first_finding(alignment, findings), reason=next(iter(reasons), None))

"""Planted faults are refused, wherever they are planted; a run that could not see one decides nothing."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import pytest
import torch

from deeplab_spec.align.counts import block_counts
from deeplab_spec.align.differences import aspects
from deeplab_spec.align.match import align
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.capture.capture import Capture
from deeplab_spec.graph.folding import foldable, folded
from deeplab_spec.judge import expected as required
from deeplab_spec.judge.decisions import CHECKS, decide
from deeplab_spec.judge.evidence import Evidence, PlantedFault
from deeplab_spec.judge.finding import Decision, Verdict
from deeplab_spec.judge.interface import observe as interface
from deeplab_spec.judge.interface.planted import StandIn, of_calls, of_comparisons, of_values, shapes_of
from deeplab_spec.judge.numerics.planted import faulty_ends
from deeplab_spec.judge.plan import Limits, SpecifiedPlan, plan
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.structure.check import by_clause
from deeplab_spec.judge.structure.observe import Reading
from deeplab_spec.judge.structure.planted import of_graphs
from deeplab_spec.spec.network import PARTS
from tests.support.members import XCEPTIONS

DEEP = pytest.mark.deep
USUAL = {("notebook", 16, None), ("tf-release", 8, None), ("tf-release-dense", 32, None)}
CASES = [
    (variant.name, output_stride, part)
    if (variant.name, output_stride, part) in USUAL or (output_stride == 16 and part in {"aspp", "decoder"})
    else pytest.param(variant.name, output_stride, part, marks=DEEP)
    for variant in XCEPTIONS
    for output_stride in variant.output_strides
    for part in (None, *PARTS)
]
NO_GRAPH = cast("Capture", None)


def planned(
    variant: str, output_stride: int = 16, part: str | None = None, limits: Limits | None = None
) -> SpecifiedPlan:
    """Plan a judgement of a narrow network."""
    request = Request(target="a test", variant=variant, part=part, overrides=("width=0.03",))
    return plan(request, output_stride, limits)


def itself(expected: Shaped, plan: SpecifiedPlan, norms: Mapping[str, str]) -> Reading:
    """Return the reading of a candidate that equals the expected network."""
    return Reading(
        image=plan.telling[0],
        capture=NO_GRAPH,
        alignment=align(expected, expected),
        expected=plan.network,
        folded=bool(norms),
        norms=norms,
        shared=frozenset(),
        other_architecture=None,
    )


@pytest.mark.parametrize("fold", [False, pytest.param(True, marks=DEEP)])
@pytest.mark.parametrize(("variant", "output_stride", "part"), CASES)
def test_every_clause_of_the_structure_refuses_the_fault_planted_for_it(
    variant: str, output_stride: int, part: str | None, *, fold: bool
) -> None:
    """At the node at which it was planted; a clause of which nothing can be wrong has none."""
    judged = planned(variant, output_stride, part)
    expected, unstrided = judged.expected(judged.telling[0]), judged.unstrided
    norms = {norm: conv for conv, norm in foldable(expected.network)} if fold else {}
    expected = expected.with_network(folded(expected.network)) if fold else expected
    facts = required.facts(expected.network, unstrided)
    reading = itself(expected, judged, norms)
    evidence = Evidence(
        output_stride=output_stride,
        part=part,
        folded=fold,
        folded_convs=frozenset(norms.values()),
        aspects=by_clause(aspects(reading.alignment), unstrided),
        counts=block_counts(reading.alignment),
    )
    planted_faults = list(of_graphs(expected, reading, facts, unstrided))
    counted = required.of_structure(expected.network, facts)

    for clause, count in counted.items():
        mine = [fault for fault in planted_faults if fault.clause == clause]
        found = decide(clause, evidence, variant, count, mine)
        if found.decision.not_applicable:
            continue
        assert found.decision.verdict is Verdict.PASSED, (clause, found.decision)
        assert found.decision.decisions == count, clause
        assert found.killed == found.planted == 1, clause
    assert {fault.clause for fault in planted_faults} == set(counted)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("part", "limits"),
    [(None, None), ("backbone", None), ("aspp", None), ("decoder", None), (None, Limits(sides=((64, 96),), batch=1))],
)
def test_every_clause_of_the_interface_refuses_the_stand_in_that_is_wrong(
    part: str | None, limits: Limits | None, dtype: torch.dtype
) -> None:
    """And accepts the one that is right, with as many decisions as there are."""
    judged = planned("notebook", part=part, limits=limits)
    right = StandIn(judged, shapes_of(judged))
    seen = interface.calls(right, judged, lambda _: None)
    calls = tuple(replace(call, difference=0.0, allowed=1.0) if call.legal else call for call in seen)
    evidence = Evidence(
        output_stride=16,
        part=part,
        named_results=judged.named_results,
        fixed_size=bool(judged.limits.sides),
        fixed_batch=bool(judged.limits.batch),
        calls=calls,
        comparisons=interface.comparisons(right.to(dtype), judged, dtype, lambda _: None),
    )
    planted_faults = [*of_calls(judged), *of_comparisons(judged, dtype), *of_values(calls)]

    for clause, count in required.of_interface(judged).items():
        found = decide(clause, evidence, "notebook", count, [each for each in planted_faults if each.clause == clause])
        if found.decision.not_applicable:
            continue
        assert found.decision.verdict is Verdict.PASSED, (clause, found.decision)
        assert found.decision.decisions == count, clause
        assert found.killed == found.planted == 1, clause


def passing(decisions: int) -> Evidence:
    """Return evidence with which a clause passes."""
    return Evidence(output_stride=16, part=None, parameters=decisions)


def without_unmatched(clause: str = "WEIGHTS-FIT") -> PlantedFault:
    """Return a planted fault that no check sees."""
    return PlantedFault(clause=clause, fault="a fault", plant=lambda evidence: evidence)


def test_a_clause_whose_planted_fault_passes_is_undecided() -> None:
    """The reason names the fault that this run could not have shown, and what would show it."""
    found = decide("WEIGHTS-FIT", passing(3), "notebook", 3, [without_unmatched()])
    elsewhere = decide("WEIGHTS-FIT", passing(3), "notebook", 3, [replace(without_unmatched(), needs="float64")])

    assert found.decision.verdict is Verdict.UNDECIDED
    assert found.decision.undecided == "this run could not have seen a fault: a planted one passed"
    assert elsewhere.decision.undecided.startswith("needs float64: this run could not have seen")
    assert (found.planted, found.killed) == (1, 0)


def test_a_fault_that_is_found_elsewhere_is_not_seen() -> None:
    """A check that names another node would name another node of a candidate too."""
    elsewhere = PlantedFault(
        clause="WEIGHTS-FIT",
        fault="a fault",
        path="aspp.pool.conv",
        plant=lambda evidence: replace(evidence, other_architecture="x"),
    )

    assert not elsewhere.killed(CHECKS["WEIGHTS-FIT"], passing(3))


def test_a_clause_with_fewer_decisions_than_it_takes_is_undecided() -> None:
    """Two of three are no pass."""
    found = decide("WEIGHTS-FIT", passing(2), "notebook", 3, [])

    assert found.decision.verdict is Verdict.UNDECIDED
    assert found.decision.undecided == "2 of 3 decisions were made"
    assert found.required == 3


@pytest.mark.parametrize(
    ("count", "planted_faults", "reason"),
    [
        (3, [], "no fault was planted for it"),
        (None, [without_unmatched()], "the expected number of decisions is not defined"),
    ],
)
def test_a_clause_without_its_planted_fault_or_its_count_is_undecided(
    count: int | None, planted_faults: list[PlantedFault], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check without a planted fault is untested; decisions that are not counted may have been skipped."""
    monkeypatch.setattr(PlantedFault, "killed", lambda *_: True)
    found = decide("WEIGHTS-FIT", passing(3), "notebook", count, planted_faults)

    assert found.decision.verdict is Verdict.UNDECIDED
    assert found.decision.undecided.startswith(reason)


def test_planted_faults_are_not_tried_on_a_clause_that_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reason stays."""
    monkeypatch.setitem(CHECKS, "WEIGHTS-FIT", lambda _evidence: Decision(undecided="the candidate crashed"))
    found = decide("WEIGHTS-FIT", passing(3), "notebook", 3, [without_unmatched()])

    assert found.decision.undecided == "the candidate crashed"
    assert (found.planted, found.killed) == (0, 0)


@pytest.mark.parametrize("part", [None, *PARTS])
def test_every_result_has_a_fault_near_its_end(part: str | None) -> None:
    """Of a part with several results, every one."""
    network = planned("tf-release", part=part).network

    assert {end.tap for end in faulty_ends(network)} == {node.op.name for node in network.outputs}  # type: ignore[union-attr]

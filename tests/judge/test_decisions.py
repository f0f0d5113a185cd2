"""Every check can pass, fail and be undecided; without evidence none decides."""

import math
from dataclasses import replace

import pytest

from deeplab_spec.judge.decisions import CHECKS
from deeplab_spec.judge.evidence import Call, Evidence
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.judge.training.evidence import BatchOfOne, Initial, Trained
from deeplab_spec.spec.clauses import CLAUSES, Level
from tests.support.observed import (
    CALL,
    GRADIENT,
    MOVEMENT,
    NOTHING,
    STATISTIC,
    STEP,
    UNIFORM,
    UNMATCHED,
    ZEROS,
    aspect,
    block,
    call,
    comparison,
    deviation,
    dropout_effect,
    in_lower,
    refused,
    result,
    spread,
    trained,
    weights,
    with_calls,
    with_comparisons,
    with_steps,
)

ILLEGAL = call("rank", legal=False, results=(), returned="", error="ValueError: rank")


def valued(difference: float) -> Call:
    """Return a call whose values were compared."""
    return replace(call(), difference=difference, allowed=1e-5)


HEAD = {
    "VALUES-BACKBONE": "backbone.entry_flow.stem.conv1.conv",
    "VALUES-ASPP": "aspp.concat",
    "VALUES-DECODER": "output",
}
AGREE = {
    "LAYOUTS-ACCEPTED": "layout",
    "DETERMINISM": "repeat",
    "BATCH-INDEPENDENCE": "batch",
    "INPUT-UNCHANGED": "input",
    "STATE-UNCHANGED": "state",
}

LOWER = [entry.id for entry in CLAUSES if entry.on_request]

PASSING: dict[str, Evidence] = {
    "OUTPUT-TENSOR": with_calls(call()),
    "OUTPUT-SHAPE": with_calls(call()),
    "OUTPUT-DTYPE": with_calls(call()),
    "OUTPUT-FINITE": with_calls(call()),
    "SIZES-ACCEPTED": with_calls(call("size")),
    "BATCHES-ACCEPTED": with_calls(call("batch")),
    "BAD-INPUT-REFUSED": with_calls(ILLEGAL),
    "VALUES-EVERY-CALL": with_calls(valued(1e-7)),
    **{name: with_comparisons(comparison(purpose)) for name, purpose in AGREE.items()},
    **{
        entry.id: replace(NOTHING, aspects={entry.id: (aspect(equal=True),)})
        for entry in CLAUSES
        if entry.level is Level.STRUCTURE
    },
    "BLOCK-COUNTS": replace(NOTHING, counts=(block(), block(actual=0, comparable=False))),
    "WEIGHTS-FIT": replace(NOTHING, parameters=7),
    **{name: with_steps(deviation(path)) for name, path in HEAD.items()},
    "VALUES-END-TO-END": replace(NOTHING, end_to_end=(deviation("output"),)),
    "VALUES-FLOAT32": replace(NOTHING, end_to_end_float32=(deviation("output"),)),
    **{name: in_lower(name, 1.0, 3.0) for name in LOWER},
    **{entry.id: trained() for entry in CLAUSES if entry.level is Level.TRAINING},
}

FAILING: dict[str, list[Evidence]] = {
    "OUTPUT-TENSOR": [
        with_calls(call(returned="dict")),
        with_calls(call(results=(), returned="NoneType")),
        with_calls(call(), call(results=(), returned="tuple")),
    ],
    "OUTPUT-SHAPE": [with_calls(call(results=result(shape=(1, 21, 16, 24))))],
    "OUTPUT-DTYPE": [with_calls(call(results=result(dtype="float64")))],
    "OUTPUT-FINITE": [with_calls(call(), call(results=result(finite=False)))],
    "SIZES-ACCEPTED": [with_calls(call("size"), refused("size"))],
    "BATCHES-ACCEPTED": [with_calls(refused("batch"))],
    "BAD-INPUT-REFUSED": [with_calls(ILLEGAL, call("channels", legal=False))],
    "VALUES-EVERY-CALL": [
        with_calls(valued(1e-7), valued(1e-3)),
        with_calls(valued(math.inf)),
        with_calls(valued(math.nan)),
        with_calls(valued(1e-7), call("size"), refused("values")),
        replace(with_calls(valued(1e-7)), comparisons=(comparison("values", 1e-3),)),
    ],
    **{
        name: [
            with_comparisons(comparison(purpose, 1e-3)),
            with_comparisons(comparison(purpose), comparison(purpose, math.inf)),
            with_comparisons(comparison(purpose, math.nan)),
        ]
        for name, purpose in AGREE.items()
    },
    **{
        entry.id: [replace(NOTHING, aspects={entry.id: (aspect(equal=True), aspect(equal=False))})]
        for entry in CLAUSES
        if entry.level is Level.STRUCTURE
    },
    "BLOCK-COUNTS": [replace(NOTHING, counts=(block(), block(actual=0)))],
    "WEIGHTS-FIT": [replace(NOTHING, parameters=7, unmatched=(UNMATCHED,))],
    **{
        name: [
            with_steps(deviation(path, 1e-3)),
            with_steps(deviation(path), deviation(path, math.nan)),
            with_steps(deviation(path, math.inf, covered=False, reason="no value below 0")),
        ]
        for name, path in HEAD.items()
    },
    "VALUES-END-TO-END": [replace(NOTHING, end_to_end=(deviation("output", 1e-3),))],
    "VALUES-FLOAT32": [replace(NOTHING, end_to_end_float32=(deviation("output", math.nan),))],
    **{name: [in_lower(name, 1.0, 3.1), in_lower(name, math.nan), in_lower(name, math.inf)] for name in LOWER},
    "BN-MOMENTUM": [
        trained(movements=(MOVEMENT, replace(MOVEMENT, mean=0.1, variance=0.1))),
        trained(movements=(replace(MOVEMENT, variance=3e-3),)),
        trained(movements=(replace(MOVEMENT, spread=0.1),)),
    ],
    "RUNNING-STATISTICS": [
        trained(statistics=(STATISTIC, replace(STATISTIC, error=1e-3))),
        trained(statistics=(replace(STATISTIC, error=math.nan),)),
        trained(frozen=(MOVEMENT.path,)),
    ],
    "DROPOUT": [
        dropout_effect(actual=(replace(CALL, probability=0.5),)),
        dropout_effect(actual=(replace(CALL, kind="dropout of whole channels"),)),
        dropout_effect(actual=(replace(CALL, reads="aspp.concat", follows="aspp.concat"),)),
        dropout_effect(actual=(), candidate=spread(0.2, 10)),
        dropout_effect(actual=(), candidate=spread(0.0, 10)),
        dropout_effect(actual=(), candidate={**spread(0.05, 10), "spread": (0.05,) * 9 + (math.nan,)}),
        dropout_effect(expected=(), actual=(), oracle={}, candidate={"spread": (0.0, math.nan)}),
        dropout_effect(actual=(), candidate=spread(0.0, 2), reason="a weight has no place"),
        dropout_effect(actual=(CALL, CALL)),
        dropout_effect(expected=(), actual=(), oracle={}, candidate=spread(0.1, 2)),
        dropout_effect(actual=(replace(CALL, probability=0.5, reads=None),), reason="a weight has no place"),
    ],
    "INITIALISATION": [
        weights(square=0.012),
        weights(mean=0.01),
        weights(greatest=0.25),
        weights(greatest=0.9),
        weights(fits={"specified": (UNIFORM, 0.01)}),
        weights(fits={"specified": (UNIFORM, 0.2)}, square=UNIFORM.variance, greatest=0.1),
        trained(
            initial=Initial(samples=(replace(ZEROS, mean=0.1, fits={"specified": (ZEROS.fits["specified"][0], 0.1)}),))
        ),
    ],
    "GRADIENT-REACHES": [
        trained(gradients=(GRADIENT, replace(GRADIENT, actual=None))),
        trained(gradients=(replace(GRADIENT, actual=0.0),)),
        trained(gradients=(replace(GRADIENT, actual=math.nan),)),
        trained(gradients=(replace(GRADIENT, expected=0.0, actual=math.inf),)),
        trained(backward="RuntimeError: a value was overwritten"),
    ],
    "TRAIN-STEP": [
        trained(step=(STEP, replace(STEP, error=1e-3))),
        trained(step=(replace(STEP, error=math.inf),)),
        trained(error="RuntimeError: not in training"),
    ],
    "BATCH-OF-ONE": [
        trained(batch_of_one=BatchOfOne(error="ValueError: more than 1 value per channel")),
        trained(batch_of_one=BatchOfOne(finite=False)),
    ],
}

UNDECIDED: dict[str, list[tuple[Evidence, str]]] = {
    "SIZES-ACCEPTED": [(with_calls(call("batch")), "no result to judge")],
    "BATCHES-ACCEPTED": [(with_calls(call("size")), "no result to judge")],
    "OUTPUT-SHAPE": [(with_calls(refused()), "no result to judge")],
    "BAD-INPUT-REFUSED": [(with_calls(call()), "")],
    "VALUES-EVERY-CALL": [
        (with_calls(call()), "no result to compare"),
        (with_calls(refused()), "no result to compare"),
    ],
    **{
        name: [(with_comparisons(comparison(purpose, None, "the candidate failed")), "the candidate failed")]
        for name, purpose in AGREE.items()
    },
    **{
        entry.id: [(replace(NOTHING, graph_reason="cannot be exported"), "cannot be exported")]
        for entry in CLAUSES
        if entry.level is Level.STRUCTURE
    },
    "BLOCK-COUNTS": [
        (replace(NOTHING, graph_reason="cannot be exported"), "cannot be exported"),
        (replace(NOTHING, counts=(block(actual=0, comparable=False),)), "the operations of every block differ"),
    ],
    "WEIGHTS-FIT": [(replace(NOTHING, numerics_reason="cannot be exported"), "cannot be exported")],
    **{
        name: [
            (
                with_steps(deviation(path), deviation(path, covered=False, reason="no value above 6")),
                "no value above 6",
            ),
            (with_steps(deviation(path, None, reason="it has no partner")), "it has no partner"),
            (with_steps(deviation(path), deviation(path, None, reason="it has no partner")), "it has no partner"),
            (replace(NOTHING, numerics_reason="cannot be exported"), "cannot be exported"),
        ]
        for name, path in HEAD.items()
    },
    "VALUES-FLOAT32": [(replace(NOTHING, numerics_reason="not requested"), "not requested")],
    **{name: [(in_lower(name, 1.0, None, reason="it does not run"), "it does not run")] for name in LOWER},
    **{
        entry.id: [
            (replace(NOTHING, graph_reason="cannot be exported"), "cannot be exported"),
            (NOTHING, "it was not trained"),
        ]
        for entry in CLAUSES
        if entry.level is Level.TRAINING
    },
    **{
        name: [
            (replace(NOTHING, trained=Trained(error="RuntimeError: no")), "RuntimeError: no"),
            (replace(NOTHING, trained=Trained(incomparable="no place")), "no place"),
        ]
        for name in ("RUNNING-STATISTICS", "GRADIENT-REACHES")
    },
    "TRAIN-STEP": [(replace(NOTHING, trained=Trained(incomparable="no place")), "no place")],
    "BN-MOMENTUM": [
        (trained(movements=(MOVEMENT, replace(MOVEMENT, mean=None))), "have no place in it"),
        (trained(movements=(replace(MOVEMENT, spread=1.0),), repeatable=False, incomparable="random"), "random"),
    ],
    "DROPOUT": [
        (dropout_effect(candidate={}, reason="it raises"), "it raises"),
        (dropout_effect(actual=(replace(CALL, reads=None),), reason="a weight has no place"), "a weight has no place"),
        (dropout_effect(candidate=spread(0.0, 2), reason="a weight has no place"), "a weight has no place"),
        (dropout_effect(candidate=spread(math.nan, 2), reason="a weight has no place"), "a weight has no place"),
    ],
}


def test_the_tables_name_every_clause() -> None:
    """A check that was never seen failing decides nothing."""
    names = {entry.id for entry in CLAUSES}

    assert set(PASSING) == set(FAILING) == names
    assert set(UNDECIDED) <= names


@pytest.mark.parametrize("name", PASSING)
def test_a_check_passes_right_evidence_and_counts_its_decisions(name: str) -> None:
    """A verdict with the number of single decisions behind it."""
    decision = CHECKS[name](PASSING[name])

    assert decision.verdict is Verdict.PASSED, decision
    assert decision.decisions >= 1


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, cases in FAILING.items() for n in range(len(cases))])
def test_a_check_fails_wrong_evidence(name: str, number: int) -> None:
    """A finding has the path, the expected and the actual value, also if a value is not a number."""
    decision = CHECKS[name](FAILING[name][number])

    assert decision.verdict is Verdict.FAILED, decision
    for finding in decision.findings:
        assert finding.path
        assert finding.attribute
        assert finding.expected != finding.actual
        assert finding.output_stride == 16


@pytest.mark.parametrize(
    ("name", "number"), [(name, n) for name, cases in UNDECIDED.items() for n in range(len(cases))]
)
def test_a_check_says_why_it_cannot_decide(name: str, number: int) -> None:
    """What could not be seen is never passed."""
    evidence, reason = UNDECIDED[name][number]
    decision = CHECKS[name](evidence)

    assert decision.verdict is Verdict.UNDECIDED, decision
    assert reason in decision.undecided


@pytest.mark.parametrize("name", CHECKS)
def test_nothing_passes_without_evidence(name: str) -> None:
    """Zero decisions are no verdict."""
    decision = CHECKS[name](NOTHING)

    assert decision.verdict is Verdict.UNDECIDED
    assert (decision.decisions, decision.findings) == (0, ())


def test_a_finding_outweighs_an_undecided_part() -> None:
    """A step that fails fails the clause, whatever another step lacked."""
    path = HEAD["VALUES-ASPP"]
    evidence = with_steps(deviation(path, 1.0), deviation(path, covered=False, reason="no value above 6"))

    assert CHECKS["VALUES-ASPP"](evidence).verdict is Verdict.FAILED


def test_findings_that_say_the_same_are_one() -> None:
    """Three sizes that are refused alike are one finding that names them."""
    calls = (refused(), replace(refused(), inputs=((1, 3, 33, 50),)), replace(refused(), inputs=((1, 3, 1, 1),)))
    (finding,) = CHECKS["SIZES-ACCEPTED"](with_calls(*calls)).findings

    assert "1x3x64x96" in str(finding.actual)
    assert str(finding.actual).endswith("; likewise 1x3x33x50, 1x3x1x1")


def test_a_deviation_is_reported_at_its_origin() -> None:
    """Two steps with one origin are one finding."""
    steps = [deviation(path, 1.0, origin="aspp.extra") for path in ("aspp.concat", "aspp.projection.conv")]
    (finding,) = CHECKS["VALUES-ASPP"](with_steps(*steps)).findings

    assert finding.path == "aspp.extra"

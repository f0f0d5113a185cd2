"""Decides the clauses of the interface from recorded calls and comparisons."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from deeplab_spec.judge.evidence import Call, Check, Evidence
from deeplab_spec.judge.finding import Decision, Finding


def _shown(call: Call) -> str:
    return " and ".join("x".join(map(str, shape)) for shape in call.inputs)


def _finding(evidence: Evidence, call: Call, attribute: str, expected: str, actual: str) -> Finding:
    return Finding(
        path="output" if attribute in {"type", "shape", "dtype", "values"} else "input",
        candidate_path=None,
        attribute=attribute,
        expected=expected,
        actual=f"{actual} (input {_shown(call)})",
        output_stride=evidence.output_stride,
    )


def _decide(calls: list[Call], judge: Callable[[Call], Iterator[Finding]]) -> Decision:
    """Judge calls; the same finding for several inputs is reported once."""
    grouped: dict[tuple[object, ...], list[tuple[Finding, Call]]] = {}
    for call in calls:
        for finding in judge(call):
            grouped.setdefault((finding.attribute, finding.expected), []).append((finding, call))
    findings = []
    for cases in grouped.values():
        first, _ = cases[0]
        if len(cases) > 1:
            others = ", ".join(_shown(call) for _, call in cases[1:])
            first = first.model_copy(update={"actual": f"{first.actual}; likewise {others}"})
        findings.append(first)
    undecided = "" if calls else "the candidate returned no result to judge"
    return Decision(findings=tuple(findings), decisions=len(calls), undecided=undecided)


def _answered(evidence: Evidence) -> list[Call]:
    return [call for call in evidence.calls if call.legal and not call.error]


def _with_results(evidence: Evidence) -> list[Call]:
    return [call for call in _answered(evidence) if len(call.results) == len(call.expected)]


def output_tensor(evidence: Evidence) -> Decision:
    """Decide OUTPUT-TENSOR."""

    def judge(call: Call) -> Iterator[Finding]:
        missing = [tap for tap, _ in call.expected if tap not in dict(call.results)]
        named = evidence.named_results
        expected = f"one tensor for each of {', '.join(tap for tap, _ in call.expected)}" if named else "a tensor"
        if missing or named == (call.returned == "Tensor"):
            yield _finding(evidence, call, "type", expected, call.returned)

    return _decide(_answered(evidence), judge)


def output_shape(evidence: Evidence) -> Decision:
    """Decide OUTPUT-SHAPE."""

    def judge(call: Call) -> Iterator[Finding]:
        results = dict(call.results)
        for tap, shape in call.expected:
            if results[tap].shape != shape:
                rule = "batch, classes, height and width of the image" if tap == "logits" else f"the size of {tap}"
                actual = f"{tap} is {'x'.join(map(str, results[tap].shape))}, must be {'x'.join(map(str, shape))}"
                yield _finding(evidence, call, "shape", rule, actual)

    return _decide(_with_results(evidence), judge)


def output_dtype(evidence: Evidence) -> Decision:
    """Decide OUTPUT-DTYPE."""

    def judge(call: Call) -> Iterator[Finding]:
        for tap, tensor in call.results:
            if tensor.dtype != call.dtype:
                yield _finding(evidence, call, "dtype", f"{call.dtype}, as the image", f"{tap} is {tensor.dtype}")

    return _decide(_with_results(evidence), judge)


def output_finite(evidence: Evidence) -> Decision:
    """Decide OUTPUT-FINITE."""

    def judge(call: Call) -> Iterator[Finding]:
        for tap, tensor in call.results:
            if not tensor.finite:
                yield _finding(evidence, call, "values", "finite values", f"{tap} has values that are not finite")

    return _decide(_with_results(evidence), judge)


def accepted(purpose: str, attribute: str, rule: str, evidence: Evidence) -> Decision:
    """Decide SIZES-ACCEPTED and BATCHES-ACCEPTED: legal inputs give a result."""

    def judge(call: Call) -> Iterator[Finding]:
        if call.error:
            yield _finding(evidence, call, attribute, rule, call.error)

    calls = [call for call in evidence.calls if call.legal and call.purpose == purpose]
    return _decide(calls, judge)


def sizes_accepted(evidence: Evidence) -> Decision:
    """Decide SIZES-ACCEPTED; rejecting only sizes that are not multiples of the output stride is a choice."""
    decision = accepted("size", "size", "a result for every height and width", evidence)
    if evidence.fixed_size and not decision.findings:
        return Decision(not_applicable="the file fixes the size of its input")
    images = evidence.part in {None, "backbone"}
    calls = [call for call in evidence.calls if call.legal and call.purpose == "size"]
    multiple = [all(side % evidence.output_stride == 0 for side in call.inputs[0][-2:]) for call in calls]
    if not images or not decision.findings or multiple != [not call.error for call in calls]:
        return decision
    hint = "pad or crop the image to multiples of the output stride"
    explained = {"choice": "sizes_accepted", "hint": hint}
    findings = tuple(finding.model_copy(update=explained) for finding in decision.findings)
    return replace(decision, findings=findings)


def batches(decide: Check, evidence: Evidence) -> Decision:
    """Decide a clause about batches of several sizes, unless a file fixes the number of images."""
    if evidence.fixed_batch:
        return Decision(not_applicable="the file fixes the number of images")
    return decide(evidence)


def refused(evidence: Evidence) -> Decision:
    """Decide BAD-INPUT-REFUSED."""

    def judge(call: Call) -> Iterator[Finding]:
        if not call.error:
            yield _finding(evidence, call, call.purpose, "an error", f"a {call.returned}")

    return _decide([call for call in evidence.calls if not call.legal], judge)


def agree(purpose: str, attribute: str, rule: str, evidence: Evidence) -> Decision:
    """Decide the clauses that require two evaluations to agree."""
    comparisons = [comparison for comparison in evidence.comparisons if comparison.purpose == purpose]
    made = [comparison for comparison in comparisons if comparison.difference is not None]
    findings = tuple(
        Finding(
            path="input" if purpose == "input" else "output",
            candidate_path=None,
            attribute=attribute,
            expected=rule,
            actual=f"{comparison.subject}: relative difference {comparison.difference:.2g}",
            output_stride=evidence.output_stride,
        )
        for comparison in made
        if comparison.difference is not None and not comparison.difference <= comparison.allowed
    )
    reasons = [comparison.reason for comparison in comparisons if comparison.reason]
    return Decision(
        findings=findings,
        decisions=len(made),
        undecided="" if made else next(iter(reasons), "the candidate returned no result to compare"),
    )


def values(evidence: Evidence) -> Decision:
    """Decide VALUES-EVERY-CALL."""
    rule = "the specification's values"
    taken = {call.inputs for call in evidence.calls if call.legal and call.purpose != "values" and not call.error}
    calls = [
        call
        for call in evidence.calls
        if call.legal
        and (call.difference is not None or (call.purpose == "values" and call.error and call.inputs in taken))
    ]

    def judge(call: Call) -> Iterator[Finding]:
        if call.difference is None or not call.difference <= call.allowed:
            what = call.error or f"relative error {call.difference:.2g}"
            yield _finding(evidence, call, "values", rule, f"{what}, {call.subject}" if call.subject else what)

    decision = _decide(calls, judge)
    exact = agree("values", "values", rule, evidence)
    reasons = (call.reason for call in evidence.calls if call.reason)
    undecided = evidence.values_reason or next(reasons, "the candidate returned no result to compare")
    return Decision(
        findings=(*decision.findings, *exact.findings),
        decisions=decision.decisions + exact.decisions,
        undecided="" if calls else undecided,
    )


CHECKS: Final[dict[str, Check]] = {
    "OUTPUT-TENSOR": output_tensor,
    "OUTPUT-SHAPE": output_shape,
    "OUTPUT-DTYPE": output_dtype,
    "OUTPUT-FINITE": output_finite,
    "SIZES-ACCEPTED": sizes_accepted,
    "BATCHES-ACCEPTED": partial(batches, partial(accepted, "batch", "batch", "a result for every batch size")),
    "LAYOUTS-ACCEPTED": partial(agree, "layout", "layout", "the same result in another memory layout"),
    "DETERMINISM": partial(agree, "repeat", "repetition", "the same result again"),
    "BATCH-INDEPENDENCE": partial(batches, partial(agree, "batch", "batch", "the same result alone and in a batch")),
    "INPUT-UNCHANGED": partial(agree, "input", "values", "an unchanged image"),
    "STATE-UNCHANGED": partial(agree, "state", "state", "unchanged parameters and buffers"),
    "BAD-INPUT-REFUSED": refused,
    "VALUES-EVERY-CALL": values,
}

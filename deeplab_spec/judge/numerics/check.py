"""Decides the clauses of the numerics from the deviations of values."""

import re
from functools import partial
from typing import Final

from deeplab_spec.judge.evidence import Check, Evidence
from deeplab_spec.judge.finding import Decision, Deviation, Finding, as_json
from deeplab_spec.spec.clauses import CLAUSES

_PARTS: Final = {
    "backbone": r"backbone\.|output\.(backbone|low_level)$",
    "aspp": r"aspp\.|output\.aspp$",
    "decoder": r"decoder\.|auxiliary\.|output$|output\.(decoder|resize|auxiliary)$",
}
"""Patterns of the paths of each part, including its outputs."""


def weights_fit(evidence: Evidence) -> Decision:
    """Decide WEIGHTS-FIT; a missing node counts once, the structure reports it."""
    if evidence.parameters is None:
        return Decision(undecided=evidence.numerics_reason)
    findings = tuple(
        Finding(
            path=parameter.path,
            candidate_path=parameter.candidate_path,
            attribute=parameter.role,
            expected="absent" if parameter.expected is None else as_json(parameter.expected),
            actual="absent" if parameter.actual is None else as_json(parameter.actual),
            output_stride=evidence.output_stride,
        )
        for parameter in evidence.unmatched
    )
    return Decision(findings=findings, decisions=evidence.parameters + len(findings))


def values(part: str, evidence: Evidence) -> Decision:
    """Decide a clause that compares one part node by node."""
    steps = [step for step in evidence.steps if re.match(_PARTS[part], step.path)]
    return _decide(evidence, steps, "value")


def end_to_end(evidence: Evidence) -> Decision:
    """Decide VALUES-END-TO-END."""
    return _decide(evidence, list(evidence.end_to_end), "value")


def float32(evidence: Evidence) -> Decision:
    """Decide VALUES-FLOAT32."""
    return _decide(evidence, list(evidence.end_to_end_float32), "float32 value")


def _decide(evidence: Evidence, deviations: list[Deviation], attribute: str) -> Decision:
    made = [deviation for deviation in deviations if deviation.error is not None]
    findings: dict[str, Finding] = {}
    for deviation in made:
        if not deviation.agrees:
            findings.setdefault(
                deviation.origin,
                Finding(
                    path=deviation.origin,
                    candidate_path=deviation.candidate_path,
                    attribute=attribute,
                    expected=f"relative error at most {deviation.allowed:.2g}",
                    actual=f"{deviation.error:.2g}",
                    output_stride=evidence.output_stride,
                ),
            )
    uncovered = [f"{deviation.path}: {deviation.reason}" for deviation in made if not deviation.covered]
    skipped = [deviation.reason for deviation in deviations if deviation.error is None]
    reasons = [*uncovered, *skipped]
    if not made:
        reasons = [next(iter(skipped), evidence.numerics_reason or "nothing could be compared")]
    return Decision(findings=tuple(findings.values()), decisions=len(made), undecided=next(iter(reasons), ""))


def lower(clause: str, evidence: Evidence) -> Decision:
    """Decide the clauses about lower precisions."""
    deviations = evidence.lower.get(clause, ())
    if evidence.folded and clause.endswith("-NORMS") and not deviations:
        return Decision(not_applicable="its normalisations are folded into its convolutions")
    made = [each for each in deviations if each.error is not None]
    findings = tuple(
        Finding(
            path=each.path,
            candidate_path=each.candidate_path,
            attribute=f"{each.dtype} value",
            expected=f"at most {each.allowed:g} times the specification's error",
            actual=each.reason or f"{each.error:.3g} times",
            output_stride=evidence.output_stride,
        )
        for each in made
        if not each.agrees
    )
    reasons = [each.reason for each in deviations if each.error is None]
    if not made:
        reasons = [*reasons, evidence.numerics_reason or "nothing could be compared"]
    return Decision(findings=findings, decisions=len(made), undecided=next(iter(reasons), ""))


CHECKS: Final[dict[str, Check]] = {
    "WEIGHTS-FIT": weights_fit,
    "VALUES-BACKBONE": partial(values, "backbone"),
    "VALUES-ASPP": partial(values, "aspp"),
    "VALUES-DECODER": partial(values, "decoder"),
    "VALUES-END-TO-END": end_to_end,
    "VALUES-FLOAT32": float32,
    **{clause.id: partial(lower, clause.id) for clause in CLAUSES if clause.on_request},
}

"""Names the first node at which a candidate differs, and shows how."""

from collections.abc import Sequence
from typing import Final

from deeplab_spec.judge import certificate as documents
from deeplab_spec.judge.finding import Finding
from deeplab_spec.judge.observe import AtStride
from deeplab_spec.judge.structure.observe import first_finding
from deeplab_spec.spec.clauses import Level

END_TO_END: Final = frozenset({"VALUES-END-TO-END", "VALUES-FLOAT32", "VALUES-LOWER-PRECISION-END-TO-END"})
"""Clauses about whole runs: their findings name the node that a step shows, or none."""


_LEVELS: Final = ({Level.STRUCTURE, Level.NUMERICS}, {Level.TRAINING})
"""Levels whose findings name nodes; what shows in training only comes last."""


def first_divergence(strides: Sequence[AtStride], clauses: Sequence[documents.ClauseRecord]) -> documents.Place | None:
    """Return the first node, in the order of the alignment, that a finding names; None if none does."""
    for stride in strides:
        if stride.reading is None:
            continue
        for levels in _LEVELS:
            findings = [
                finding
                for clause in clauses
                if clause.level in levels and clause.id not in END_TO_END
                for finding in clause.findings
                if finding.output_stride == stride.plan.output_stride
            ]
            first = first_finding(stride.reading.alignment, findings)
            if first:
                return _place(first, stride)
    return None


def no_node(clauses: Sequence[documents.ClauseRecord]) -> str:
    """Say why no node is named, where only whole runs differ; empty where none does."""
    if not any(clause.id in END_TO_END and clause.findings for clause in clauses):
        return ""
    return "every node computes what is specified; what runs them together, a compiler or a runtime, does not"


def _place(finding: Finding, stride: AtStride) -> documents.Place:
    shown = stride.smallest if stride.smallest and stride.smallest[0] == finding.path else None
    return documents.Place(
        path=finding.path,
        candidate_path=finding.candidate_path,
        output_stride=finding.output_stride,
        attribute=finding.attribute,
        expected=finding.expected,
        actual=finding.actual,
        smallest_input=shown[1] if shown else None,
    )

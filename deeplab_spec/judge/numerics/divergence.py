"""Names the first node at which a candidate differs, and shows how."""

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from deeplab_spec.align.match import Alignment
from deeplab_spec.judge import certificate as documents
from deeplab_spec.judge.evidence import Summary, Witness
from deeplab_spec.judge.finding import Finding
from deeplab_spec.judge.observe import AtStride
from deeplab_spec.spec.clauses import Level

_Found = TypeVar("_Found", Finding, documents.FindingRecord)

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
            first = first_of(stride.reading.alignment, findings)
            if first:
                return _place(first, stride)
    return None


def first_of(alignment: Alignment, findings: Iterable[_Found]) -> _Found | None:
    """Return the finding that comes first in the order of an alignment; None if none names a node of it.

    Where nodes are missing and others stand in their place, the missing ones come first.
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

    def place(finding: _Found) -> tuple[int, int]:
        return extra.get(finding.candidate_path) or positions[finding.path]

    return min((finding for finding in findings if finding.path in positions), key=place, default=None)


def no_node(clauses: Sequence[documents.ClauseRecord]) -> str:
    """Say why no node is named, where only whole runs differ; empty where none does."""
    if not any(clause.id in END_TO_END and clause.findings for clause in clauses):
        return ""
    return "every node computes what is specified; what runs them together, a compiler or a runtime, does not"


def _place(finding: documents.FindingRecord, stride: AtStride) -> documents.Place:
    shown = stride.witness if stride.witness and stride.witness[0] == finding.path else None
    return documents.Place(
        path=finding.path,
        candidate_path=finding.candidate_path,
        output_stride=finding.output_stride,
        attribute=finding.attribute,
        expected=finding.expected,
        actual=finding.actual,
        smallest_input=_smallest(shown[1]) if shown else None,
    )


def _smallest(witness: Witness) -> documents.SmallestInput:
    return documents.SmallestInput(
        batch=witness.batch,
        image=witness.image,
        content=witness.content,
        error=witness.error,
        expected=_values(witness.expected),
        actual=_values(witness.actual),
    )


def _values(summary: Summary) -> documents.Values:
    return documents.Values(
        shape=summary.shape,
        mean=summary.mean,
        deviation=summary.deviation,
        least=summary.least,
        greatest=summary.greatest,
    )

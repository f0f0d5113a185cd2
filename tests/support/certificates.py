"""Certificates made by hand: of clauses with the findings and verdicts that a test wants."""

from collections.abc import Mapping, Sequence

from deeplab_spec.judge.certificate import Certificate, ClauseRecord
from deeplab_spec.judge.finding import Finding, Verdict, combined, run_verdict
from deeplab_spec.spec.clauses import CLAUSES, Level

Decided = Sequence[str] | tuple[Verdict, str]
"""Paths of findings, or a verdict without any and its reason."""

SECONDS = 1.0


def finding(path: str) -> Finding:
    """Return a finding at a node."""
    return Finding(
        path=path,
        candidate_path=f"my.{path}",
        attribute="rate",
        choice=None,
        expected=6,
        actual=12,
        hint="as at output stride 8",
        output_stride=16,
    )


def record(name: str, decided: Decided = ()) -> ClauseRecord:
    """Return what was decided about a clause: it passed, where nothing else is said."""
    level = next(clause.level for clause in CLAUSES if clause.id == name)
    verdict, reason, paths = Verdict.PASSED, "", tuple(decided)
    if decided and isinstance(decided[0], Verdict):
        verdict, reason, paths = decided[0], decided[1], ()
    elif decided:
        verdict = Verdict.FAILED
    findings = tuple(finding(path) for path in paths)
    return ClauseRecord(id=name, level=level, verdict=verdict, decisions=7, reason=reason, findings=findings)


def certificate(decided: Mapping[str, Decided] | None = None, only: Sequence[str] = ()) -> Certificate:
    """Return a certificate of all clauses, or of some, which pass where nothing else is said."""
    found = decided or {}
    clauses = tuple(record(clause.id, found.get(clause.id, ())) for clause in CLAUSES if not only or clause.id in only)
    levels = {
        level.value: combined(clause.verdict for clause in clauses if clause.level == level)
        for level in Level
        if any(clause.level == level for clause in clauses)
    }
    return Certificate(
        target="my_model:build",
        variant="notebook",
        choices={},
        part=None,
        classes=21,
        seed=0,
        verdict=run_verdict(clause.verdict for clause in clauses),
        levels=levels,
        cases=(),
        clauses=clauses,
        nearest=None,
        first_divergence=None,
        versions={},
        seconds=SECONDS,
    )

"""A certificate as GitHub reads it: a summary in Markdown, and annotations of a workflow."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from deeplab_spec.errors import printable
from deeplab_spec.judge.certificate import Certificate, ClauseRecord
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.judge.text import location, problem, sentence
from deeplab_spec.spec.clauses import clause as named
from deeplab_spec.views.table import inert

MOST_CLAUSES: Final = 40
"""The number of clauses in a summary; a comment has room for 65,536 characters."""

MOST_FINDINGS: Final = 3
MOST_ANNOTATIONS: Final = 10
"""GitHub shows no more for a step."""

_SIGNS: Final = {
    RunVerdict.CONFORMS: "\N{WHITE HEAVY CHECK MARK}",
    RunVerdict.CONFORMS_WITH_WAIVERS: "\N{LARGE YELLOW CIRCLE}",
    RunVerdict.INCONCLUSIVE: "\N{LARGE YELLOW CIRCLE}",
    RunVerdict.DEVIATES: "\N{CROSS MARK}",
}
_OPEN: Final = (Verdict.FAILED, Verdict.UNDECIDED, Verdict.WAIVED)


def summary(certificate: Certificate) -> str:
    """Return the summary for a pull request."""
    lines = [
        f"### {_SIGNS[certificate.verdict]} {inert(certificate.target)}: {certificate.verdict}",
        "",
        inert(sentence(certificate)),
        "",
        "| level | verdict | clauses | decisions |",
        "| :--- | :--- | ---: | ---: |",
    ]
    for level, verdict in certificate.levels.items():
        clauses = [clause for clause in certificate.clauses if clause.level == level]
        lines.append(f"| {level} | {verdict} | {len(clauses)} | {sum(clause.decisions for clause in clauses):,} |")
    several = len(certificate.settings.output_strides) > 1
    shown = [clause for verdict in _OPEN for clause in certificate.clauses if clause.verdict is verdict]
    if shown:
        lines += ["", "| clause | verdict | where | what |", "| :--- | :--- | :--- | :--- |"]
        lines += [row for clause in shown[:MOST_CLAUSES] for row in _rows(clause, several=several)]
    if len(shown) > MOST_CLAUSES:
        lines += ["", f"and {len(shown) - MOST_CLAUSES} more clauses"]
    return "\n".join(lines)


def _rows(clause: ClauseRecord, *, several: bool) -> Iterator[str]:
    if not clause.findings:
        yield f"| {inert(clause.id)} | {clause.verdict} | | {inert(clause.reason)} |"
    for finding in clause.findings[:MOST_FINDINGS]:
        where = inert(location(finding, several=several))
        yield f"| {inert(clause.id)} | {clause.verdict} | {where} | {inert(problem(finding))} |"
    if len(clause.findings) > MOST_FINDINGS:
        yield f"| {inert(clause.id)} | | | and {len(clause.findings) - MOST_FINDINGS} more |"


def annotations(certificate: Certificate) -> str:
    """Return one line for each clause that did not pass, as a workflow prints them; empty if all did."""
    return "\n".join(islice(_annotations(certificate), MOST_ANNOTATIONS))


def _annotations(certificate: Certificate) -> Iterator[str]:
    several = len(certificate.settings.output_strides) > 1
    for verdict, command in ((Verdict.FAILED, "error"), (Verdict.UNDECIDED, "warning"), (Verdict.WAIVED, "notice")):
        for clause in certificate.clauses:
            if clause.verdict is verdict:
                title = _escaped(f"{clause.id} {verdict}", name=True)
                yield f"::{command} title={title}::{_escaped(_message(clause, several=several))}"


def _message(clause: ClauseRecord, *, several: bool) -> str:
    lines = [named(clause.id).sentence, *([clause.reason] if clause.reason else [])]
    lines += [f"{location(each, several=several)}: {problem(each)}" for each in clause.findings[:MOST_FINDINGS]]
    if len(clause.findings) > MOST_FINDINGS:
        lines.append(f"and {len(clause.findings) - MOST_FINDINGS} more")
    return "\n".join(map(printable, lines))


def _escaped(text: str, *, name: bool = False) -> str:
    """Escape what would end a message, or the value of a name."""
    shown = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return shown.replace(":", "%3A").replace(",", "%2C") if name else shown

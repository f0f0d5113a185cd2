"""A certificate as other programs read it: GitHub (summary, annotations), test reports (JUnit), shields.io (badge)."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final
from xml.etree import ElementTree as ET

from deeplab_spec.errors import printable
from deeplab_spec.judge.certificate import Certificate, ClauseRecord
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.judge.text import location, problem, sentence
from deeplab_spec.spec.clauses import clause as named
from deeplab_spec.views.table import inert
from deeplab_spec.views.template import render

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

_ELEMENTS: Final = {
    Verdict.FAILED: "failure",
    Verdict.UNDECIDED: "error",
    Verdict.WAIVED: "skipped",
    Verdict.NOT_APPLICABLE: "skipped",
}
"""Only what passed has no element; what is undecided is an error, and does not count as passed."""

COLOURS: Final = {
    RunVerdict.CONFORMS: "#1a7f37",
    RunVerdict.CONFORMS_WITH_WAIVERS: "#7a5c00",
    RunVerdict.INCONCLUSIVE: "#57606a",
    RunVerdict.DEVIATES: "#b42318",
}
_LETTER, _MARGIN, _LONGEST = 6.6, 10, 60


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


def junit(certificate: Certificate) -> str:
    """Return the report as XML."""
    root = ET.Element("testsuites", name=printable(f"{certificate.target} against {certificate.reference}"))
    _count(root, certificate.clauses)
    for level in certificate.levels:
        clauses = tuple(clause for clause in certificate.clauses if clause.level == level)
        suite = ET.SubElement(root, "testsuite", name=level)
        _count(suite, clauses)
        for clause in clauses:
            case = ET.SubElement(suite, "testcase", name=clause.id, classname=f"deeplab_spec.{level}")
            if clause.verdict in _ELEMENTS:
                _add(case, clause)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}'


def _count(element: ET.Element, clauses: tuple[ClauseRecord, ...]) -> None:
    names = [_ELEMENTS.get(clause.verdict, "passed") for clause in clauses]
    element.set("tests", str(len(names)))
    for attribute, name in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(names.count(name)))


def _add(case: ET.Element, clause: ClauseRecord) -> None:
    lines = [printable(f"{location(each, several=True)}  {problem(each)}") for each in clause.findings]
    reasons = [printable(f"until {waiver.expires}: {waiver.reason}") for waiver in clause.waivers]
    message = printable(clause.reason) or next(iter(lines), "")
    element = ET.SubElement(case, _ELEMENTS[clause.verdict], message=f"{clause.verdict}: {message}")
    element.text = "\n".join([*lines, *reasons]) or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """A badge of two halves, in pixels."""

    label: str
    message: str
    colour: str

    @property
    def widths(self) -> tuple[float, float]:
        """The widths of both halves."""
        label, message = (round(len(text) * _LETTER + 2 * _MARGIN) for text in (self.label, self.message))
        return label, message


def badge(certificate: Certificate) -> Badge:
    """Return the badge of a certificate."""
    part = f" {certificate.part}" if certificate.part else ""
    label = printable(f"{certificate.reference}{part}")
    return Badge(
        label=label if len(label) <= _LONGEST else f"{label[:_LONGEST]}...",
        message=certificate.verdict.value,
        colour=COLOURS[certificate.verdict],
    )


def badge_svg(certificate: Certificate) -> str:
    """Return the badge as a picture."""
    return render("badge.svg.j2", d=badge(certificate))


def badge_json(certificate: Certificate) -> str:
    """Return the badge as shields.io reads it from an address."""
    found = badge(certificate)
    endpoint = {"schemaVersion": 1, "label": found.label, "message": found.message, "color": found.colour}
    return json.dumps(endpoint, indent=2)

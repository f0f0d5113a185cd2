"""A certificate as a JUnit report: one suite for each level, one case for each clause."""

from typing import Final
from xml.etree import ElementTree as ET

from deeplab_spec.errors import printable
from deeplab_spec.judge.certificate import Certificate, ClauseRecord
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.judge.text import location, problem

_ELEMENTS: Final = {
    Verdict.FAILED: "failure",
    Verdict.UNDECIDED: "error",
    Verdict.WAIVED: "skipped",
    Verdict.NOT_APPLICABLE: "skipped",
}
"""Only what passed has no element; what is undecided is an error, and does not count as passed."""


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

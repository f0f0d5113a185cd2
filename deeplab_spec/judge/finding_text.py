"""Findings as text: one at a time, of one clause alone, and those that are waived."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from deeplab_spec.judge.certificate import Certificate, ClauseRecord, FindingRecord, Json
from deeplab_spec.judge.finding import Verdict
from deeplab_spec.spec.clauses import clause as named

WIDTH: Final = 100
MOST: Final = 20
"""So many findings of one clause are shown; the JSON document has them all."""


def worded(value: Json) -> str:
    """Write the value of a finding or of a choice.

    >>> worded([12, 24, 36]), worded(True)
    ('12,24,36', 'true')
    """
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def place(finding: FindingRecord, *, several: bool) -> str:
    """Say where a finding is.

    Args:
        finding: The finding.
        several: Whether there are several output strides to tell apart.
    """
    at = f"[{finding.output_stride}] " if several else ""
    other = f"  {finding.candidate_path}" if finding.candidate_path not in {None, finding.path} else ""
    return f"{at}{finding.path}{other}"


def wrong(finding: FindingRecord) -> str:
    """Say what is wrong there."""
    expected, actual = worded(finding.expected), worded(finding.actual)
    match finding.attribute:
        case "node" if actual == "absent":
            return f"lacks: {expected}"
        case "node":
            return f"followed by: {actual}"
        case "inputs":
            return f"reads {actual}, must read {expected}"
        case attribute if attribute.endswith("value"):
            return f"{attribute} off by {actual}, {expected}"
        case attribute:
            return f"{attribute} is {actual}, must be {expected}"


def waiver_lines(clauses: Sequence[ClauseRecord]) -> Iterator[str]:
    """List what waivers cover, with reason and expiry, and what they would cover if they covered all."""
    for record in clauses:
        covered = {path for waiver in record.waivers for path in waiver.covers}
        if record.verdict is Verdict.WAIVED:
            count = len(record.findings)
            yield f"    {record.id} is waived ({count} finding{'s' * (count > 1)})"
        elif covered:
            left = list(dict.fromkeys(each.path for each in record.findings if each.path not in covered))
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            yield f"    {record.id} is not waived: no waiver covers {left[0]}{more}"
        for waiver in record.waivers:
            yield f"      until {waiver.expires}: {waiver.reason}"
            for finding in record.findings:
                if finding.path in waiver.covers and record.verdict is Verdict.WAIVED:
                    yield f"        {place(finding, several=False)}  {wrong(finding)}"


def clause_text(certificate: Certificate, record: ClauseRecord) -> str:
    """Return the report of one clause alone: its sentence, its findings, its source."""
    clause = named(record.id)
    sentence = textwrap.wrap(clause.sentence, WIDTH, initial_indent="  ", subsequent_indent="  ")
    judged = f"  judged: {certificate.target} against {certificate.standard}"
    return "\n".join([_title(record), *sentence, *_body(record), judged, f"  source: {clause.source}"])


def _title(record: ClauseRecord) -> str:
    if not record.findings:
        return f"{record.verdict}: {record.reason}"
    more = f" and {len(record.findings) - 1} more" if len(record.findings) > 1 else ""
    return f"{record.verdict}: {record.findings[0].path}{more}"


def _body(record: ClauseRecord) -> Iterator[str]:
    several = len({finding.output_stride for finding in record.findings}) > 1
    for finding in record.findings[:MOST]:
        choice = f"  ({finding.choice})" if finding.choice else ""
        yield f"    {place(finding, several=several)}  {wrong(finding)}{choice}"
    if len(record.findings) > MOST:
        yield f"    and {len(record.findings) - MOST} more"
    hints = dict.fromkeys(finding.hint for finding in record.findings if finding.hint)
    yield from (f"    hint: {hint}" for hint in hints)
    if record.waivers and record.verdict is Verdict.FAILED:
        yield from waiver_lines([record])

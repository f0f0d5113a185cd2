"""The text of a certificate, of one clause and of one finding."""

import re
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from deeplab_spec.judge.certificate import Certificate, ClauseRecord, Nearest, Values
from deeplab_spec.judge.finding import Finding, Json, RunVerdict, Verdict
from deeplab_spec.precision import LOWER
from deeplab_spec.spec.choices import names as choice_names
from deeplab_spec.spec.choices import written
from deeplab_spec.spec.clauses import clause as named
from deeplab_spec.spec.variants import variant

WIDTH: Final = 100
MOST_FINDINGS: Final = 4
"""The number of findings shown for one choice; the JSON document contains all."""

MOST_OF_CLAUSE: Final = 20
"""The number of findings shown for a clause that is reported alone."""

_COUNTED: Final = re.compile(r"^[\d,]+ of [\d,]+ decisions were made:")
"""The numbers in a reason, without which the reason of several clauses is one."""

_WORDS: Final = {
    Verdict.PASSED: "passed",
    Verdict.FAILED: "FAILED",
    Verdict.WAIVED: "waived",
    Verdict.UNDECIDED: "undecided",
    Verdict.NOT_APPLICABLE: "not applicable",
}


def text(certificate: Certificate, most: int | None = MOST_FINDINGS) -> str:
    """Return the report of a certificate, with at most so many findings of one choice or clause; with all for None."""
    parts = (_place(certificate), _body(certificate, most), _precisions(certificate), _divergence(certificate))
    return "\n".join([_header(certificate), *(line for part in parts for line in part), _verdict(certificate)])


def _header(certificate: Certificate) -> str:
    strides = sorted({case.output_stride for case in certificate.cases})
    at = f" at output stride {' and '.join(map(str, strides))}" if strides else ""
    part = f" {certificate.part}" if certificate.part else ""
    chosen = "".join(f" {name}={worded(value)}" for name, value in certificate.choices.items())
    title = f"{certificate.target}, judged against {certificate.reference}{part}{chosen}{at}"
    devices = ", ".join(sorted({case.device for case in certificate.cases}))
    return _apart(title, ", ".join([*_versions(certificate.versions), *([devices] if certificate.versions else [])]))


def _versions(versions: Mapping[str, str]) -> Iterator[str]:
    """Yield the version of PyTorch, and the versions of the candidate's environment where they differ."""
    if "torch" in versions:
        yield f"torch {versions['torch']}"
    if any(versions.get(f"candidate_{name}", version) != version for name, version in versions.items()):
        yield f"the candidate's {versions['candidate_torch']} on Python {versions['candidate_python']}"


def _apart(left: str, right: str) -> str:
    if not right:
        return left
    room = WIDTH - len(left) - len(right)
    return f"{left}{' ' * room}{right}" if room > 1 else f"{left}\n{right.rjust(WIDTH)}"


def _place(certificate: Certificate) -> Iterator[str]:
    """Say where a part was found in a whole network."""
    if certificate.found is None:
        return
    found = certificate.found
    modules, inputs = (_and(names) for names in (found.modules, found.inputs))
    line = f"the {found.part} was found in it: {modules}, from {inputs} to {_and(found.outputs)}; "
    line += "the rest of the network was left alone"
    yield from textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _and(names: Sequence[str]) -> str:
    """Join names; of many, the first."""
    shown = [*names[:MOST_FINDINGS], *([f"{len(names) - MOST_FINDINGS} more"] if len(names) > MOST_FINDINGS else [])]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def _body(certificate: Certificate, most: int | None) -> Iterator[str]:
    if certificate.another_network:
        return
    seen: set[str] = set()
    for level, verdict in certificate.levels.items():
        clauses = [clause for clause in certificate.clauses if clause.level == level]
        first = _first(certificate, level, verdict)
        yield f"  {level:<10}{len(clauses):>3} clauses  {_WORDS[verdict]}{first}"
        failed = [clause for clause in clauses if clause.verdict is Verdict.FAILED]
        yield from _findings(certificate, failed, seen, most)
        if level == "structure":
            yield from _counts(certificate)
        yield from _undecided(clauses)
        yield from waiver_lines(clauses)


def _precisions(certificate: Certificate) -> Iterator[str]:
    """Describe how lower precisions are measured."""
    named = {case.dtype for case in certificate.cases}
    yield from (f"  {each.name}: {each.does}" for each in LOWER if each.name in named)


def _divergence(certificate: Certificate) -> Iterator[str]:
    """Describe the first difference, and the smallest input that shows it."""
    first = certificate.first_divergence
    if certificate.first_divergence_reason:
        yield f"  no node differs: {certificate.first_divergence_reason}"
    if first is None or first.smallest_input is None:
        return
    shown = first.smallest_input
    images = f"{shown.batch} image{'s' * (shown.batch > 1)} of {shown.image[0]}x{shown.image[1]}"
    yield f"  {first.path} differs already on {images}, {shown.content}: off by {shown.error:.2g}"
    yield f"    is      {_numbers(shown.actual)}"
    yield f"    must be {_numbers(shown.expected)}"


def _numbers(values: Values) -> str:
    shape = "x".join(map(str, values.shape))
    return (
        f"{shape}, mean {values.mean:.4g}, deviation {values.deviation:.4g}, "
        f"from {values.least:.4g} to {values.greatest:.4g}"
    )


def _first(certificate: Certificate, level: str, verdict: Verdict) -> str:
    first = certificate.first_divergence
    shown = level == "numerics" and verdict is Verdict.FAILED and first is not None
    return f"     first difference at {first.path}" if shown and first else ""


def _findings(
    certificate: Certificate, clauses: Sequence[ClauseRecord], seen: set[str], most: int | None
) -> Iterator[str]:
    """Describe findings by choice; for a choice that an earlier level has shown, only count them."""
    groups: dict[str, list[Finding]] = {}
    named = _named_by_structure(certificate, clauses) if most is not None else set()
    for clause in clauses:
        for finding in clause.findings:
            if finding.choice or finding.path not in named:
                groups.setdefault(finding.choice or finding.cause or clause.id, []).append(finding)
    left_out = sum(len(clause.findings) for clause in clauses) - sum(map(len, groups.values()))
    if left_out:
        yield f"    {left_out} finding{'s' * (left_out > 1)} where the structure differs (--all lists them)"
    for name, findings in groups.items():
        if name in seen and name in _choices(certificate):
            nodes = len({finding.path for finding in findings})
            yield f"    {name}: the values show it at {nodes} node{'s' * (nodes > 1)}"
            continue
        seen.add(name)
        yield f"    {_group(certificate, name)} ({len(findings)} finding{'s' * (len(findings) > 1)})"
        hints = tuple(finding.hint for finding in findings if finding.hint and f"{name}=" not in finding.hint)
        folded = dict.fromkeys(finding.cause for finding in findings if finding.cause not in {"", name})
        yield from (f"      {cause}" for cause in folded)
        alone = [finding for finding in findings if most is None or not finding.cause]
        shown = _examples(alone, most)
        several = len({case.output_stride for case in certificate.cases}) > 1
        places = [location(finding, several=several) for finding in shown]
        width = min(max(map(len, places), default=0), WIDTH // 2)
        for at, finding in zip(places, shown, strict=True):
            yield f"      {at:<{width}}  {problem(finding)}"
        if len(alone) > len(shown):
            yield f"      and {len(alone) - len(shown)} more (--all lists them)"
        yield from (f"      hint: {hint}" for hint in dict.fromkeys(hints))


def _named_by_structure(certificate: Certificate, clauses: Sequence[ClauseRecord]) -> set[str]:
    """Return the nodes at which the structure has findings, unless these are the clauses of the structure."""
    if any(clause.level == "structure" for clause in clauses):
        return set()
    return {
        finding.path for clause in certificate.clauses if clause.level == "structure" for finding in clause.findings
    }


def _examples(findings: Sequence[Finding], most: int | None) -> list[Finding]:
    """Return some findings in order, among them the first of every kind."""
    if most is None or len(findings) <= most:
        return list(findings)
    kinds: dict[tuple[str, bool, bool], int] = {}
    for place, finding in enumerate(findings):
        kinds.setdefault((finding.attribute, finding.candidate_path is None, finding.expected == "absent"), place)
    chosen = dict.fromkeys([*kinds.values(), *range(len(findings))])
    return [findings[place] for place in sorted(list(chosen)[:most])]


def _choices(certificate: Certificate) -> tuple[str, ...]:
    """Return the names of the choices that findings can be grouped by."""
    return choice_names(variant(certificate.variant).family) if certificate.variant else ()


def _group(certificate: Certificate, name: str) -> str:
    if name not in _choices(certificate) or certificate.variant is None:
        return name
    expected = written(getattr(variant(certificate.variant).choices, name)) or "none"
    if name in certificate.choices:
        expected = worded(certificate.choices[name])
    nearest = certificate.nearest
    if nearest is None:
        return f"{name} must be {expected}"
    published = getattr(variant(nearest.variant).choices, name)
    actual = worded(nearest.choices[name]) if name in nearest.choices else written(published) or "none"
    return f"{name} is {actual}, must be {expected}" if actual != expected else f"{name} must be {expected}"


def _counts(certificate: Certificate) -> Iterator[str]:
    """Describe the parameters and multiply-adds that differ from the expected ones, by block."""
    for counts in certificate.counts:
        if not counts.differing:
            continue
        several = f"[{counts.output_stride}] " if len(certificate.counts) > 1 else ""
        changes = [
            f"{actual:,} {name} ({actual - expected:+,})" if actual != expected else f"{actual:,} {name} (as specified)"
            for name, (expected, actual) in (("parameters", counts.parameters), ("multiply-adds", counts.macs))
        ]
        yield f"    {several}costs {' and '.join(changes)} at {counts.size[0]}x{counts.size[1]}"
        largest = sorted(counts.differing, key=lambda block: -abs(block.macs[1] - block.macs[0]))
        for block in largest[:MOST_FINDINGS]:
            parameters, macs = (pair[1] - pair[0] for pair in (block.parameters, block.macs))
            yield f"      {block.path:<32}{parameters:+16,} parameters {macs:+18,} multiply-adds"
        if len(largest) > MOST_FINDINGS:
            yield f"      and {len(largest) - MOST_FINDINGS} more blocks"


def _undecided(clauses: Sequence[ClauseRecord]) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for clause in clauses:
        if clause.verdict in {Verdict.UNDECIDED, Verdict.NOT_APPLICABLE}:
            reason = _COUNTED.sub("not every decision was made:", clause.reason)
            reasons.setdefault(f"{_WORDS[clause.verdict]}: {reason}", []).append(clause.id)
    for reason, names in reasons.items():
        shown = ", ".join(names[:MOST_FINDINGS]) + (
            f" and {len(names) - MOST_FINDINGS} more" * (len(names) > MOST_FINDINGS)
        )
        yield f"    {shown} {reason}"


def _verdict(certificate: Certificate) -> str:
    lines = textwrap.wrap(sentence(certificate), WIDTH - len("1000 s  "), break_on_hyphens=False)
    return "\n".join([*lines[:-1], _apart(lines[-1], f"{certificate.seconds:.0f} s")])


def sentence(certificate: Certificate) -> str:
    """Return the verdict in one sentence."""
    if certificate.another_network:
        return f"DEVIATES from {certificate.reference}: {certificate.another_network}.{_head(certificate)}"
    match certificate.verdict:
        case RunVerdict.CONFORMS:
            clauses = sum(clause.verdict is Verdict.PASSED for clause in certificate.clauses)
            decisions = sum(clause.decisions for clause in certificate.clauses)
            refused = f"{certificate.canaries.killed:,} planted faults refused"
            return f"CONFORMS to {certificate.reference}: {clauses} clauses, {decisions:,} decisions, {refused}."
        case RunVerdict.CONFORMS_WITH_WAIVERS:
            clauses = sum(clause.verdict is Verdict.PASSED for clause in certificate.clauses)
            waived = sum(clause.verdict is Verdict.WAIVED for clause in certificate.clauses)
            accepted = "" if certificate.waivers_accepted else ", which is not accepted (--accept-waivers)"
            counted = f"{clauses} clauses passed, {waived} waived{accepted}"
            return f"CONFORMS WITH WAIVERS to {certificate.reference}: {counted}."
        case RunVerdict.INCONCLUSIVE:
            return f"INCONCLUSIVE: nothing failed, but not everything could be decided against {certificate.reference}."
        case RunVerdict.DEVIATES:
            return f"DEVIATES from {certificate.reference}{_in_choices(certificate)}."


def _head(certificate: Certificate) -> str:
    """Say what the verdict about the head of another network is."""
    head = certificate.head
    if head is None:
        return ""
    its = f" Its head ({_and(head.found.modules)}) "
    match head.verdict:
        case RunVerdict.CONFORMS:
            return f"{its}conforms to that of {certificate.reference}."
        case RunVerdict.DEVIATES:
            what = _counted(head.choices) or f" in {_and(head.clauses)}"
            near = _nearest(head.nearest)
            return f"{its}deviates from that of {certificate.reference}{what}{near} (--part head says where)."
        case _:
            return f"{its}is undecided (--part head says why)."


def _in_choices(certificate: Certificate) -> str:
    findings = [finding for clause in certificate.clauses for finding in clause.findings]
    choices = {finding.choice for finding in findings if finding.choice}
    return f"{_counted(choices)}{_nearest(certificate.nearest)}"


def _counted(choices: Collection[str]) -> str:
    return f" in {len(choices)} choice{'s' * (len(choices) != 1)}" if choices else ""


def _nearest(nearest: Nearest | None) -> str:
    if nearest is None:
        return ""
    on_top = [f"{name}={worded(value)}" for name, value in nearest.choices.items()]
    return f". Nearest: {nearest.variant} with {' '.join(on_top)}" if on_top else f". Nearest: {nearest.variant}"


def worded(value: Json) -> str:
    """Return the value of a finding or of a choice as text.

    >>> worded([12, 24, 36]), worded(True)
    ('12,24,36', 'true')
    """
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def location(finding: Finding, *, several: bool) -> str:
    """Return the location of a finding, with its output stride if the certificate covers several."""
    at = f"[{finding.output_stride}] " if several else ""
    other = f"  {finding.candidate_path}" if finding.candidate_path not in {None, finding.path} else ""
    return f"{at}{finding.path}{other}"


def problem(finding: Finding) -> str:
    """Describe what is wrong at a finding."""
    expected, actual = worded(finding.expected), worded(finding.actual)
    match finding.attribute:
        case "node" if actual == "absent":
            return f"missing: {expected}"
        case "node":
            return f"followed by: {actual}"
        case "inputs":
            return f"inputs are {actual}, must be {expected}"
        case attribute if attribute.endswith("value"):
            return f"{attribute} off by {actual}, {expected}"
        case attribute:
            return f"{attribute} is {actual}, must be {expected}"


def waiver_lines(clauses: Sequence[ClauseRecord]) -> Iterator[str]:
    """List waivers with what they cover, their reason and expiry, and the findings that no waiver covers."""
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
                    yield f"        {location(finding, several=False)}  {problem(finding)}"


def clause_text(certificate: Certificate, record: ClauseRecord) -> str:
    """Return the report of one clause: its sentence, its findings and its source."""
    clause = named(record.id)
    sentence = textwrap.wrap(clause.sentence, WIDTH, initial_indent="  ", subsequent_indent="  ")
    judged = f"  judged: {certificate.target} against {certificate.reference}"
    return "\n".join([_clause_title(record), *sentence, *_clause_body(record), judged, f"  source: {clause.source}"])


def _clause_title(record: ClauseRecord) -> str:
    if not record.findings:
        return f"{record.verdict}: {record.reason}"
    more = f" and {len(record.findings) - 1} more" if len(record.findings) > 1 else ""
    return f"{record.verdict}: {record.findings[0].path}{more}"


def _clause_body(record: ClauseRecord) -> Iterator[str]:
    several = len({finding.output_stride for finding in record.findings}) > 1
    for finding in record.findings[:MOST_OF_CLAUSE]:
        choice = f"  ({finding.choice})" if finding.choice else ""
        yield f"    {location(finding, several=several)}  {problem(finding)}{choice}"
    if len(record.findings) > MOST_OF_CLAUSE:
        yield f"    and {len(record.findings) - MOST_OF_CLAUSE} more"
    hints = dict.fromkeys(finding.hint for finding in record.findings if finding.hint)
    yield from (f"    hint: {hint}" for hint in hints)
    if record.waivers and record.verdict is Verdict.FAILED:
        yield from waiver_lines([record])

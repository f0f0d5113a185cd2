"""The gate's documents as text and as Markdown."""

from math import expm1

from deeplab_spec.gate.document import CaseResultModel, Estimate, GateDocument, Plant
from deeplab_spec.views.table import Grid, integer, markdown, plain

LAYOUT = (
    "the place of code or data in memory, if it is the same in every process of a side, can look like slower code: "
    "identical binaries have shown a stable +27 % on one host, with a spread under 0.3 %"
)
"""A cause of a FAIL that no number of processes excludes."""

_HEADERS = ("case", "verdict", "head takes", "interval", "pairs", "dropped", "counts", "time")


def text(document: GateDocument) -> str:
    """Return the report for a terminal; its last line is the verdict on all cases."""
    return "\n".join([plain(_grid(document)), "", *_notes(document), headline(document)])


def page(document: GateDocument) -> str:
    """Return the report as Markdown, for the summary of a pull request."""
    notes = [f"- {note}" for note in _notes(document)]
    return "\n".join([f"### {headline(document)}", "", markdown(_grid(document)), "", *notes])


def headline(document: GateDocument) -> str:
    """Return the verdict on all cases in one line."""
    names = {verdict: [r.case.name for r in document.cases if r.verdict == verdict] for verdict in ("FAIL", "PASS")}
    what = f"{document.head} against {document.base}, margin {percent(document.rule.margin)}"
    failed = f" ({', '.join(names['FAIL'])})" if names["FAIL"] else ""
    planted = f" WITH A PLANTED SLOWDOWN ({_planted(document.plant)})" if document.plant else ""
    return f"{document.verdict}{failed}{planted}: {what}, {document.seconds:.0f} s"


def _planted(plant: Plant) -> str:
    wait = [f"every run of head waits for {percent(plant.wait)} of its own time"] if plant.wait else []
    mode = [f"head runs in mode {plant.mode}"] if plant.mode else []
    return ", ".join([*wait, *mode])


def _grid(document: GateDocument) -> Grid:
    rows = tuple(_row(result) for result in document.cases)
    return Grid(headers=_HEADERS, rows=rows, right=frozenset({4, 5, 7}))


def _row(result: CaseResultModel) -> tuple[str, ...]:
    timing = result.timing
    estimate = timing.decision.estimate
    return (
        result.case.name,
        result.verdict,
        f"{signed(expm1(estimate.log_ratio))} time" if estimate else "-",
        _interval(estimate),
        str(len(timing.pairs)),
        str(timing.dropped),
        result.counts.verdict if result.counts else "not read",
        f"{timing.seconds:.0f} s",
    )


def _interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return f"{signed(expm1(estimate.low))} to {signed(expm1(estimate.high))}"


def _notes(document: GateDocument) -> list[str]:
    notes = []
    for result in document.cases:
        name, counts = result.case.name, result.counts
        notes += [f"{name}: {note}" for note in _timing_notes(result)]
        if counts is None:
            notes.append(f"{name}: the exact counts are unknown: {result.counts_reason}")
            continue
        for count, increase in counts.increases.items():
            before, after = getattr(counts.base, count), getattr(counts.head, count)
            notes.append(f"{name}: {count} grew by {percent(increase)}, from {integer(before)} to {integer(after)}")
        if counts.base.digest == counts.head.digest:
            notes.append(f"{name}: both sides have the same graph, {counts.head.digest[:12]}")
        notes.extend(f"{name}: {difference}" for difference in counts.differences)
        if counts.head.uncounted:
            notes.append(f"{name}: {counts.head.uncounted} operations of head are not counted")
    return notes


def _timing_notes(result: CaseResultModel) -> list[str]:
    """Return what was timed, why there is no decision, and what confirms a FAIL."""
    timing, notes = result.timing, []
    if result.built:
        notes.append(what_is_timed(result.built))
    if timing.reason:
        notes.append(timing.reason)
    if timing.decision.verdict == "FAIL" and timing.confirmation:
        estimate = timing.confirmation.decision.estimate
        pairs = len(timing.confirmation.pairs)
        slowdown = f"{signed(expm1(estimate.log_ratio))} time" if estimate else "-"
        notes.append(f"a second set of {pairs} pairs of fresh processes confirms it: head takes {slowdown}")
        notes.append(f"what this FAIL does not exclude: {LAYOUT}")
    return notes


def what_is_timed(built: tuple[str, str]) -> str:
    """Describe the calls that built base and head.

    >>> what_is_timed(("m:build()", "m:build()"))
    'base and head are m:build()'
    """
    base, head = built
    return f"base and head are {base}" if base == head else f"base is {base}, head is {head}"


def percent(value: float) -> str:
    """Write a fraction in percent.

    >>> percent(0.1), percent(0.034567)
    ('10 %', '3.5 %')
    """
    return f"{100 * value:.1f}".removesuffix(".0") + " %"


def signed(value: float) -> str:
    """Write a change in percent, with its sign.

    >>> signed(0.0123), signed(-0.05)
    ('+1.2 %', '-5.0 %')
    """
    return f"{100 * value:+.1f} %"

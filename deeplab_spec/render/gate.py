"""The gate's documents as text and as Markdown."""

from math import expm1

from deeplab_spec.render.gate_documents import (
    CalibrationDocument,
    CaseResultModel,
    CountsModel,
    EstimateModel,
    GateDocument,
    OutcomeModel,
)
from deeplab_spec.render.markdown import markdown
from deeplab_spec.render.table import Grid, integer, plain

_HEADERS = ("case", "verdict", "head takes", "interval", "pairs", "dropped", "counts", "time")


def text(document: GateDocument) -> str:
    """Return a verdict for a terminal; the last line is the verdict on all cases."""
    return "\n".join([plain(_grid(document)), "", *_notes(document), headline(document)])


def page(document: GateDocument) -> str:
    """Return a verdict as Markdown, for the summary of a pull request."""
    notes = [f"- {note}" for note in _notes(document)]
    return "\n".join([f"### {headline(document)}", "", markdown(_grid(document)), "", *notes])


def headline(document: GateDocument) -> str:
    """Return the verdict on all cases in one line."""
    names = {verdict: [r.case.name for r in document.cases if r.verdict == verdict] for verdict in ("FAIL", "PASS")}
    what = f"{document.head} against {document.base}, margin {percent(document.rule.margin)}"
    failed = f" ({', '.join(names['FAIL'])})" if names["FAIL"] else ""
    return f"{document.verdict}{failed}: {what}, {document.seconds:.0f} s"


def _grid(document: GateDocument) -> Grid:
    rows = tuple(_row(result) for result in document.cases)
    return Grid(headers=_HEADERS, rows=rows, right=frozenset({4, 5, 7}))


def _row(result: CaseResultModel) -> tuple[str, ...]:
    timing = result.timing
    seen = timing.decision.estimate
    return (
        result.case.name,
        result.verdict,
        f"{signed(expm1(seen.log_ratio))} time" if seen else "-",
        _interval(seen),
        str(len(timing.pairs)),
        str(timing.dropped),
        result.counts.verdict if result.counts else "not read",
        f"{timing.seconds:.0f} s",
    )


def _interval(seen: EstimateModel | None) -> str:
    if seen is None:
        return "-"
    return f"{signed(expm1(seen.low))} to {signed(expm1(seen.high))}"


def _notes(document: GateDocument) -> list[str]:
    notes = []
    for result in document.cases:
        name, counts = result.case.name, result.counts
        if result.timing.reason:
            notes.append(f"{name}: {result.timing.reason}")
        if counts is None:
            notes.append(f"{name}: exact counts are not known: {result.counts_reason}")
            continue
        for count, increase in counts.increases.items():
            before, after = _count(counts.base, count), _count(counts.head, count)
            notes.append(f"{name}: {count} grew by {percent(increase)}, from {integer(before)} to {integer(after)}")
        if counts.base.digest == counts.head.digest:
            notes.append(f"{name}: one graph on both sides, {counts.head.digest[:12]}")
        notes.extend(f"{name}: {difference}" for difference in counts.differences)
        if counts.head.uncounted:
            notes.append(f"{name}: {counts.head.uncounted} operations of head are in no count")
    return notes


def _count(counts: CountsModel, name: str) -> int:
    return int(getattr(counts, name))


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


_RECORDED = ("condition", "recordings", "dropped", "planted", "measured", "spread")
_RESAMPLED = ("condition", "trials", "FAIL", "over trials", "over recordings", "PASS", "pairs", "verdict", "95 %")


def calibration_page(document: CalibrationDocument, picture: str) -> str:
    """Return the gate's error rates as a Markdown page.

    Args:
        document: What was measured and resampled.
        picture: Name of the picture's file, beside the page.
    """
    case, rule = document.case, document.rule
    machine = ", ".join(f"{name} {value}" for name, value in document.machine.items())
    recordings = sum(entry.recorded for entry in document.outcomes)
    about = (
        f"Case `{case.name}`: {case.variant}, output stride {case.output_stride}, "
        f"{case.batch}x3x{case.size[0]}x{case.size[1]}, {case.direction}, {case.mode}, {case.threads} threads, "
        f"{case.rounds} rounds. Margin {percent(rule.margin)}, errors {percent(rule.alpha)} (FAIL) and "
        f"{percent(rule.beta)} (PASS), looks at {', '.join(map(str, rule.looks))} pairs. {machine}."
    )
    recorded = (
        f"{recordings} pairs of fresh processes, each one independent observation; the median pair took "
        f"{document.pair_seconds:.1f} s. A wait lengthens every forward pass of head by that share of its own time. "
        "How much a lost channels_last and an unfused BN cost is what the recordings say."
    )
    resampled = (
        "A trial draws recordings of one condition with replacement and follows the rule (seed "
        f"{document.seed}). *Over trials* is the Wilson interval of the trials' number; *over recordings* repeats "
        "everything on recordings that are drawn anew, and is the one that says how much the recordings can tell. "
        "The time is that of the pairs that a verdict takes, at the median time of a pair. The line in the picture "
        "is the A/A recordings with a slowdown added by arithmetic."
    )
    first = Grid(headers=_RECORDED, rows=tuple(map(_recorded, document.outcomes)), right=frozenset(range(1, 6)))
    second = Grid(headers=_RESAMPLED, rows=tuple(map(_resampled, document.outcomes)), right=frozenset(range(1, 9)))
    consecutive = "\n".join(f"- {entry.name}: {_consecutive(entry)}" for entry in document.outcomes)
    parts = (
        f"# Error rates of the gate: {document.device}",
        about,
        headline_of_rates(document),
        f"![Share of FAIL by planted slowdown]({picture})",
        "## Recorded",
        recorded,
        markdown(first),
        "Trials of consecutive recordings, none used twice:",
        consecutive,
        "## Resampled",
        resampled,
        markdown(second),
    )
    return "\n\n".join(parts)


def headline_of_rates(document: CalibrationDocument) -> str:
    """Return false alarms and detection at the margin, in one line."""
    same = next(entry for entry in document.outcomes if entry.slowdown == 0)
    planted = next(entry for entry in document.outcomes if entry.slowdown == document.rule.margin)
    return (
        f"False alarms {percent(same.resampled.rate)} ({same.resampled.failed} of {same.resampled.trials} resampled "
        f"trials of {same.recorded} recordings); a planted slowdown of {percent(document.rule.margin)} is found in "
        f"{percent(planted.resampled.rate)} ({planted.resampled.failed} of {planted.resampled.trials} resampled trials "
        f"of {planted.recorded} recordings); a verdict takes {same.seconds:.0f} s where nothing changed and "
        f"{planted.seconds:.0f} s at the margin (medians)."
    )


def _recorded(entry: OutcomeModel) -> tuple[str, ...]:
    planted = "-" if entry.slowdown is None else percent(entry.slowdown)
    return (
        entry.name,
        str(entry.recorded),
        str(entry.dropped),
        planted,
        signed(entry.measured),
        percent(entry.spread),
    )


def _consecutive(entry: OutcomeModel) -> str:
    trials = entry.consecutive
    if not trials.trials:
        return "too few recordings for a trial"
    return f"{trials.failed} FAIL, {trials.passed} PASS of {trials.trials} trials"


def _resampled(entry: OutcomeModel) -> tuple[str, ...]:
    trials = entry.resampled
    return (
        entry.name,
        str(trials.trials),
        percent(trials.rate),
        f"{percent(trials.low)} to {percent(trials.high)}",
        f"{percent(entry.recordings_low)} to {percent(entry.recordings_high)}",
        percent(trials.passed / trials.trials),
        f"{entry.pairs:.1f}",
        f"{entry.seconds:.0f} s",
        f"{entry.slow_seconds:.0f} s",
    )

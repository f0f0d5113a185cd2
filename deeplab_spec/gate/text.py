"""The gate's documents as text and as Markdown pages, and the curve of its error rates as an SVG file."""

from math import expm1

from deeplab_spec.gate.document import CalibrationDocument, CaseResultModel, Estimate, GateDocument, OutcomeModel, Plant
from deeplab_spec.views.table import Grid, integer, markdown, plain
from deeplab_spec.views.template import render

LAYOUT = (
    "the place of code or data in memory, if it is the same in every process of a side, can look like slower code: "
    "identical binaries have shown a stable +27 % on one host, with a spread under 0.3 %"
)
"""A cause of a FAIL that no number of processes excludes."""

_HEADERS = ("case", "verdict", "head takes", "interval", "pairs", "dropped", "counts", "time")

_RECORDED = ("condition", "recordings", "dropped", "planted", "measured", "spread")
_RESAMPLED = (
    "condition",
    "trials",
    "first set",
    "FAIL",
    "over trials",
    "over recordings",
    "PASS",
    "pairs",
    "verdict",
    "95 %",
)

_LEFT, _RIGHT, _TOP, _BOTTOM = 60.0, 610.0, 40.0, 300.0
"""The area of the curve, in pixels."""

_TICKS = 5

_NOT_EXCLUDED = (
    "The rates hold for what differs from process to process. More processes do not average out what is the same in "
    f"every process of a side. For example, {LAYOUT}. The linker, the loader and the allocator decide where "
    "code and data lie, and a change of a file that is never run can move them. A FAIL therefore says that head is "
    "slower as it was built and loaded here, not that its source is slower; a PASS can hide a slowdown that such a "
    "placement compensates. Another build, another order of linking or another host tells them apart; more pairs do "
    "not."
)


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


def calibration_page(document: CalibrationDocument, picture: str) -> str:
    """Return the gate's error rates as a Markdown page that shows a picture of the curve."""
    case, rule = document.case, document.rule
    machine = ", ".join(f"{name} {value}" for name, value in document.machine.items())
    recordings = sum(entry.recorded for entry in document.outcomes)
    threads = "1 thread" if case.threads == 1 else f"{case.threads} threads"
    about = (
        f"Case `{case.name}`: {document.built}, {case.batch}x3x{case.size[0]}x{case.size[1]}, {case.direction}, "
        f"{case.mode}, {threads}, {case.rounds} rounds. Margin {percent(rule.margin)}, errors "
        f"{percent(rule.alpha)} (FAIL) and {percent(rule.beta)} (PASS), looks at {', '.join(map(str, rule.looks))} "
        f"pairs. Protocol {document.protocol}. {machine}."
    )
    recorded = (
        f"{recordings} pairs of fresh processes, each one independent observation; the median pair took "
        f"{document.pair_seconds:.1f} s. A wait lengthens every forward pass of head by that share of its own time. "
        "The cost of a lost channels_last and of an unfused BN is known from the recordings only."
    )
    resampled = (
        "A trial draws recordings of one condition with replacement and follows the rule (seed "
        f"{document.seed}). If that says FAIL, it draws a second set, which must confirm it at an error of "
        f"{percent(document.confirming_alpha or 0)}; otherwise the trial is inconclusive. *First set* is the share of "
        "trials whose first set says FAIL: the promised error bounds this share. *Over trials* is the Wilson interval "
        "for the number of trials. *Over recordings* is the bootstrap interval: everything is repeated on recordings "
        "that are drawn anew, so it accounts for the number of recordings. The time is that of all pairs of a "
        "verdict, including those that confirm it, at the median time of a pair. The line in the picture is the A/A "
        "recordings with a slowdown added by arithmetic."
    )
    first = Grid(headers=_RECORDED, rows=tuple(map(_recorded, document.outcomes)), right=frozenset(range(1, 6)))
    second = Grid(headers=_RESAMPLED, rows=tuple(map(_resampled, document.outcomes)), right=frozenset(range(1, 10)))
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
        "## What a verdict does not exclude",
        _NOT_EXCLUDED,
    )
    return "\n\n".join(parts)


def headline_of_rates(document: CalibrationDocument) -> str:
    """Return the false alarms and the detection at the margin, in one line."""
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
    return (entry.name, str(entry.recorded), str(entry.dropped), planted, signed(entry.measured), percent(entry.spread))


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
        percent(entry.first_set.rate) if entry.first_set else "-",
        percent(trials.rate),
        f"{percent(trials.low)} to {percent(trials.high)}",
        f"{percent(entry.recordings_low)} to {percent(entry.recordings_high)}",
        percent(trials.passed / trials.trials),
        f"{entry.pairs:.1f}",
        f"{entry.seconds:.0f} s",
        f"{entry.slow_seconds:.0f} s",
    )


def curve(document: CalibrationDocument) -> str:
    """Return the share of FAIL by planted slowdown, as a self-contained SVG file."""
    most = max(point.slowdown for point in document.curve)

    def across(slowdown: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * slowdown / most, 1)

    def down(rate: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * rate, 1)

    steps = [number / (_TICKS - 1) for number in range(_TICKS)]
    points = [f"{across(point.slowdown)} {down(point.rate)}" for point in document.curve]
    drawn = {
        "title": f"Share of FAIL on {document.device}, {document.case.name}",
        "vertical": [{"at": down(step), "label": percent(step)} for step in steps],
        "horizontal": [{"at": across(most * step), "label": percent(most * step)} for step in steps],
        "margin": across(document.rule.margin),
        "line": f"M{'L'.join(points)}",
        "dots": [
            {
                "x": across(entry.slowdown),
                "y": down(entry.resampled.rate),
                "low": down(entry.recordings_low),
                "high": down(entry.recordings_high),
                "title": f"{entry.name}: {percent(entry.resampled.rate)}",
            }
            for entry in document.outcomes
            if entry.slowdown is not None
        ],
    }
    return render("gate_curve.svg.j2", d=drawn)

"""Runs the gate: for every case counts first, then pairs until the rule has seen enough."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final

from deeplab_spec.align.shaped import Shaped
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.errors import TargetError
from deeplab_spec.measure.gate_cases import Case
from deeplab_spec.measure.gate_counts import CountVerdict, judge_counts
from deeplab_spec.measure.gate_networks import from_json
from deeplab_spec.measure.gate_pairs import Pair, job_of, run_pair
from deeplab_spec.measure.gate_process import SamplingProcess
from deeplab_spec.measure.gate_rule import Decision, GateVerdict, Rule, decide, estimate, overall, undecided
from deeplab_spec.measure.gate_sides import PACKAGES, Side

Progress = Callable[[str, int, int], None]
Measure = Callable[[int], Pair]

WITNESS_FACTOR: Final = 1.15
"""Pairs whose clocks differ by more than this are dropped."""

_DROPPED_SHARE: Final = 3
_DROPPED_FROM: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the gate runs.

    Attributes:
        rule: When a case is decided.
        count_margin: The relative increase of an exact count that fails.
        timeout: Seconds that a process may take for any answer.
        allow_different: Whether two networks that are not one network may be timed.
    """

    rule: Rule = field(default_factory=Rule)
    count_margin: float = 0.01
    timeout: float = 120.0
    allow_different: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What the clock says of a case.

    Attributes:
        decision: The verdict, and the estimate that it rests on.
        pairs: Those that count, in order.
        dropped: How many pairs were dropped because the clocks differed.
        reason: Why there is no decision, where there is none.
        seconds: How long all pairs took.
    """

    decision: Decision
    pairs: tuple[Pair, ...]
    dropped: int
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What the gate says of a case; ``counts`` is None where a graph could not be read."""

    case: Case
    counts: CountVerdict | None
    counts_reason: str
    timing: Timing
    verdict: GateVerdict


def graphs(case: Case, base: Side, head: Side, timeout: float) -> tuple[Shaped, Shaped]:
    """Read the graphs of both sides, each in a process of its own.

    Raises:
        TargetError: If a side cannot be built, or its graph cannot be read.
    """
    with ExitStack() as stack:
        processes = []
        for role, side in (("base", base), ("head", head)):
            job = {**job_of(case, side), "packages": str(PACKAGES)}
            name = f"{role} ({side.name})"
            script = PACKAGES / "deeplab_spec" / "measure" / "gate_capture.py"
            processes.append(stack.enter_context(SamplingProcess(name, side.paths, job, timeout, script)))
        answers = [process.answer("network") for process in processes]
        for side, answer in zip((base, head), answers, strict=True):
            side.require_origin(answer["origin"])
    return from_json(answers[0]["network"]), from_json(answers[1]["network"])


def compare_counts(case: Case, base: Side, head: Side, settings: Settings) -> tuple[CountVerdict | None, str]:
    """Return the verdict on the exact counts, or why there is none.

    Raises:
        TargetError: If the sides are not the same network, or a graph cannot be read, and that is
            not allowed.
    """
    try:
        before, after = graphs(case, base, head, settings.timeout)
    except TargetError as error:
        if settings.allow_different:
            return None, str(error)
        raise
    mode = Mode.TRAIN if case.direction == "train" else Mode.FORWARD
    verdict = judge_counts(before, after, mode, settings.count_margin)
    if verdict.differences and not settings.allow_different:
        shown = "; ".join(verdict.differences)
        raise TargetError(
            head.name, f"is not the same network as {base.name} (--allow-different times it anyway): {shown}"
        )
    return verdict, ""


def time_case(rule: Rule, measure: Measure, progress: Progress, name: str) -> Timing:
    """Run pairs until the rule decides.

    Args:
        rule: When it is decided.
        measure: Measures the pair of a number.
        progress: Told what is done, how many pairs are, and how many there may be.
        name: Of the case.
    """
    kept: list[Pair] = []
    dropped, seconds = 0, 0.0
    decision: Decision | None = None
    reason = ""
    while decision is None:
        progress(_stage(name, rule, kept), len(kept), rule.max_pairs)
        pair = measure(len(kept) + dropped)
        seconds += pair.seconds
        if pair.clocks_differ(WITNESS_FACTOR):
            dropped += 1
            run = len(kept) + dropped
            if run >= _DROPPED_FROM and dropped * _DROPPED_SHARE > run:
                reason = f"the clocks differed in {dropped} of {run} pairs"
                decision = undecided(rule, [pair.log_ratio for pair in kept])
            continue
        kept.append(pair)
        decision = decide(rule, [pair.log_ratio for pair in kept])
    if decision.verdict is GateVerdict.INCONCLUSIVE and not reason:
        reason = f"{rule.max_pairs} pairs were not enough to tell"
    return Timing(decision=decision, pairs=tuple(kept), dropped=dropped, reason=reason, seconds=seconds)


def _stage(name: str, rule: Rule, kept: Sequence[Pair]) -> str:
    if len(kept) < 2:  # noqa: PLR2004 - an estimate needs two
        return name
    seen = estimate(rule, [pair.log_ratio for pair in kept])
    left = (rule.max_pairs - len(kept)) * fmean(pair.seconds for pair in kept)
    return f"{name}: head takes {seen.log_ratio:+.1%}, at most {left:.0f} s more"


def run_case(case: Case, base: Side, head: Side, settings: Settings, progress: Progress) -> CaseResult:
    """Decide one case.

    Raises:
        TargetError: If a side cannot be built or run, or the sides are not the same network.
    """
    progress(f"{case.name}: reading the graphs", 0, settings.rule.max_pairs)
    found, why = compare_counts(case, base, head, settings)

    def measure(number: int) -> Pair:
        return run_pair(case, base, head, settings.timeout, head_first=bool(number % 2))

    timing = time_case(settings.rule, measure, progress, case.name)
    verdicts = [timing.decision.verdict, *([found.verdict] if found else [])]
    return CaseResult(case=case, counts=found, counts_reason=why, timing=timing, verdict=overall(verdicts))

"""Runs the gate: for every case counts first, then pairs until there is a verdict."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.gate.cases import Case
from deeplab_spec.gate.counts import CountVerdict, judge_counts
from deeplab_spec.gate.networks import from_json
from deeplab_spec.gate.pair_processes import StartedPair
from deeplab_spec.gate.pair_queue import Ahead, default_ahead
from deeplab_spec.gate.pairs import NOTHING, Plant, job_of
from deeplab_spec.gate.process import SamplingProcess
from deeplab_spec.gate.rule import GateVerdict, Rule, overall
from deeplab_spec.gate.sides import PACKAGES, Side
from deeplab_spec.gate.timing import Timing, time_case
from deeplab_spec.views.progress import Progress

Announce = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the gate runs.

    Attributes:
        rule: When a case is decided.
        count_margin: The relative increase of an exact count that fails.
        timeout: Seconds that a process may take for any answer.
        allow_different: Whether two networks that are not one network may be timed.
        plant: What is done to head on purpose.
        ahead: How many pairs are started together; None for what the machine has cores for.

    Raises:
        SpecError: If no pair may be started.
    """

    rule: Rule = field(default_factory=Rule)
    count_margin: float = 0.01
    timeout: float = 120.0
    allow_different: bool = False
    plant: Plant = NOTHING
    ahead: int | None = None

    def __post_init__(self) -> None:
        if self.ahead is not None and self.ahead < 1:
            raise SpecError("--ahead", "must be 1 or more", self.ahead)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What the gate says of a case; ``counts`` is None where a graph could not be read."""

    case: Case
    counts: CountVerdict | None
    counts_reason: str
    timing: Timing
    verdict: GateVerdict

    @property
    def built(self) -> tuple[str, str] | None:
        """What the processes built for base and for head, with every argument; None where no pair counted."""
        return self.timing.pairs[0].built if self.timing.pairs else None


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
            script = PACKAGES / "deeplab_spec" / "gate" / "side" / "capture.py"
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


def run_case(
    case: Case, base: Side, head: Side, settings: Settings, progress: Progress, announce: Announce
) -> CaseResult:
    """Decide one case.

    Args:
        case: What is timed.
        base: What head is compared with.
        head: What must not be slower.
        settings: How the gate runs.
        progress: Told what is done, how many pairs are, and how many there may be.
        announce: Told in a line what is really timed, as soon as a process has built it.

    Raises:
        TargetError: If a side cannot be built or run, or the sides are not the same network.
    """
    progress(f"{case.name}: reading the graphs", 0, settings.rule.max_pairs)
    found, why = compare_counts(case, base, head, settings)

    def start(number: int) -> StartedPair:
        return StartedPair(case, base, head, settings.timeout, number=number, plant=settings.plant)

    def told(built: tuple[str, str]) -> None:
        announce(f"{case.name}: {what_is_timed(built)}")

    most = settings.ahead or default_ahead(case)
    with Ahead(start, most, told) as pairs:
        timing = time_case(settings.rule, pairs.measure, progress, case.name)
    verdicts = [timing.decision.verdict, *([found.verdict] if found else [])]
    return CaseResult(case=case, counts=found, counts_reason=why, timing=timing, verdict=overall(verdicts))


def what_is_timed(built: tuple[str, str]) -> str:
    """Say what was built for base and for head.

    >>> what_is_timed(("m:build()", "m:build()"))
    'base and head are m:build()'
    """
    base, head = built
    return f"base and head are {base}" if base == head else f"base is {base}, head is {head}"

"""The gate: opens both sides, decides every case by counts and by time, and returns a document."""

from collections.abc import Callable
from dataclasses import replace
from time import monotonic

from deeplab_spec.errors import require_torch
from deeplab_spec.gate.cases import Case
from deeplab_spec.gate.counts import compare_counts
from deeplab_spec.gate.device import machine
from deeplab_spec.gate.document import CaseResultModel, GateCaseModel, GateDocument, PlantModel, RuleModel, TimingModel
from deeplab_spec.gate.pair_processes import PairProcesses, PairQueue, default_ahead
from deeplab_spec.gate.pairs import CLOCK_FACTOR, DRIFT_FACTOR, NO_PLANT
from deeplab_spec.gate.request import GateRequest, Settings
from deeplab_spec.gate.rule import overall
from deeplab_spec.gate.sides import Side, opened
from deeplab_spec.gate.text import what_is_timed
from deeplab_spec.gate.timing import CONFIRMING_ALPHA, time_case
from deeplab_spec.views.progress import Progress

Announce = Callable[[str], None]
"""Receives a line for the user."""


def gate(request: GateRequest, progress: Progress, announce: Announce) -> GateDocument:
    """Decide whether head is slower than base.

    Args:
        request: The sides, the cases and the settings; the cases share the rule's ``alpha``.
        progress: Receives the stage, the number of pairs measured, and the largest number possible.
        announce: Receives one line about what is timed, as soon as a process has built it.

    Raises:
        MissingExtraError: If torch is not installed.
        SpecError: If a side has none of the supported forms.
        TargetError: If a side cannot be built or run, or the sides are different networks.
    """
    require_torch("gate")
    start = monotonic()
    rule = replace(request.settings.rule, cases=len(request.cases))
    settings = replace(request.settings, rule=rule)
    with (
        opened(request.base, request.target, request.arguments) as base,
        opened(request.head, request.target, request.arguments) as head,
    ):
        for side in (base, head):
            side.require_variant(request.cases)
        results = tuple(_run_case(case, base, head, settings, progress, announce) for case in request.cases)
    return GateDocument(
        base=request.base,
        head=request.head,
        rule=RuleModel.model_validate(rule),
        count_margin=settings.count_margin,
        witness_factor=CLOCK_FACTOR,
        drift_factor=DRIFT_FACTOR,
        confirming_alpha=CONFIRMING_ALPHA,
        plant=None if settings.plant == NO_PLANT else PlantModel.model_validate(settings.plant),
        cases=results,
        verdict=overall([result.verdict for result in results]).value,
        machine=machine(),
        seconds=monotonic() - start,
    )


def _run_case(
    case: Case, base: Side, head: Side, settings: Settings, progress: Progress, announce: Announce
) -> CaseResultModel:
    """Decide one case: compare the counts, then measure pairs until there is a verdict."""
    progress(f"{case.name}: reading the graphs", 0, settings.rule.max_pairs)
    counts, reason = compare_counts(case, base, head, settings)

    def start(number: int) -> PairProcesses:
        return PairProcesses(case, base, head, settings.timeout, number=number, plant=settings.plant)

    def announce_built(built: tuple[str, str]) -> None:
        announce(f"{case.name}: {what_is_timed(built)}")

    with PairQueue(start, settings.ahead or default_ahead(case), announce_built) as queue:
        timing = time_case(settings.rule, queue.measure, progress, case.name)
    verdicts = [timing.decision.verdict, *([counts.verdict] if counts else [])]
    return CaseResultModel(
        case=GateCaseModel.model_validate(case),
        counts=counts,
        counts_reason=reason,
        timing=TimingModel.model_validate(timing),
        verdict=overall(verdicts).value,
        built=timing.pairs[0].built if timing.pairs else None,
    )

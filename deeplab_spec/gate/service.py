"""The gate as a service: opens both sides, decides every case, and returns a document."""

import importlib.util
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from time import monotonic

from deeplab_spec.errors import MissingExtraError, SpecError
from deeplab_spec.gate.calibration.calibrate import calibrate
from deeplab_spec.gate.calibration.recordings import Recorder
from deeplab_spec.gate.cases import DEFAULT_CASES, Case, case
from deeplab_spec.gate.confirm import CONFIRMING_ALPHA
from deeplab_spec.gate.device import device_of, processor
from deeplab_spec.gate.document import (
    CalibrationDocument,
    CaseResultModel,
    GateDocument,
    PlantModel,
    RuleModel,
)
from deeplab_spec.gate.pair_queue import default_ahead
from deeplab_spec.gate.pairs import CLOCK_FACTOR, DRIFT_FACTOR, NOTHING
from deeplab_spec.gate.rule import overall
from deeplab_spec.gate.run import Announce, Settings, run_case
from deeplab_spec.gate.sides import BUILD, Side, opened
from deeplab_spec.views.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRequest:
    """What is asked of the gate.

    Attributes:
        base: What head is compared with: a target, a directory, ``ref:NAME``, or a wheel.
        head: What must not be slower.
        cases: What is timed.
        target: What is built of a directory, ref or wheel.
        arguments: Keyword arguments of what is built, as text.
        settings: How the gate runs; the rule is told of the number of cases.
    """

    base: str
    head: str
    cases: tuple[Case, ...] = field(default_factory=lambda: tuple(map(case, DEFAULT_CASES)))
    target: str = BUILD
    arguments: Mapping[str, str] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        if not self.cases:
            raise SpecError("--case", "there must be a case", "none")
        if self.settings.plant.mode:
            for entry in self.cases:
                replace(entry, mode=self.settings.plant.mode)  # refused where the case cannot run in it


def gate(request: GateRequest, progress: Progress, announce: Announce) -> GateDocument:
    """Decide whether head is slower than base.

    Args:
        request: What is asked.
        progress: Told what is done, how many pairs are, and how many there may be.
        announce: Told in a line what is really timed, as soon as a process has built it.

    Raises:
        MissingExtraError: If torch is not installed.
        SpecError: If a side has a form that it cannot have.
        TargetError: If a side cannot be built or run, or the sides are not the same network.
    """
    _require_torch()
    start = monotonic()
    rule = replace(request.settings.rule, cases=len(request.cases))
    settings = replace(request.settings, rule=rule)
    with (
        opened(request.base, request.target, request.arguments) as base,
        opened(request.head, request.target, request.arguments) as head,
    ):
        for side in (base, head):
            _require_one_variant(side, request.cases)
        results = [run_case(entry, base, head, settings, progress, announce) for entry in request.cases]
    return GateDocument(
        base=request.base,
        head=request.head,
        rule=RuleModel.model_validate(rule),
        count_margin=settings.count_margin,
        witness_factor=CLOCK_FACTOR,
        drift_factor=DRIFT_FACTOR,
        confirming_alpha=CONFIRMING_ALPHA,
        plant=None if settings.plant == NOTHING else PlantModel.model_validate(settings.plant),
        cases=tuple(map(CaseResultModel.model_validate, results)),
        verdict=overall([result.verdict for result in results]).value,
        machine=machine(),
        seconds=monotonic() - start,
    )


def calibration(
    folder: Path, request: GateRequest, recordings: int, seed: int, progress: Progress
) -> tuple[str, CalibrationDocument]:
    """Measure the gate's own error rates with one target on both sides.

    Args:
        folder: Where recordings are kept, and found again.
        request: The target, as base and head; one case.
        recordings: How many pairs are recorded, over all conditions.
        seed: Of the resampling.
        progress: Told what is done.

    Returns:
        The name of the device as a file may be named, and the document.

    Raises:
        MissingExtraError: If torch is not installed.
        SpecError: If there are several cases, or the folder holds recordings of something else.
        TargetError: If a pair cannot be measured.
    """
    _require_torch()
    if len(request.cases) != 1:
        raise SpecError("--calibrate", "needs one case", [entry.name for entry in request.cases])
    only, settings = request.cases[0], request.settings
    device = device_of(only)
    with opened(request.base, request.target, request.arguments) as side:
        _require_one_variant(side, request.cases)
        recorder = Recorder(
            case=only,
            side=side,
            rule=settings.rule,
            device=device,
            timeout=settings.timeout,
            ahead=settings.ahead or default_ahead(only),
        )
        found = calibrate(folder, recorder, recordings, seed, progress)
    values = {name: getattr(found, name) for name in CalibrationDocument.model_fields if hasattr(found, name)}
    document = CalibrationDocument.model_validate(values | {"machine": machine()})
    return device.file, document


def _require_one_variant(side: Side, cases: Sequence[Case]) -> None:
    """Refuse an option that decides a variant that the side has decided.

    Raises:
        SpecError: If there is one.
    """
    for entry in cases:
        if side.variant and "variant" in entry.required and entry.variant != side.variant:
            raise SpecError("--variant", f"must be that of {side.name}", entry.variant)


def machine() -> dict[str, str | int]:
    """Return what the machine says of itself."""
    return {
        "processor": platform.machine(),
        "model": processor(),
        "cores": os.cpu_count() or 0,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def _require_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("gate", "torch")

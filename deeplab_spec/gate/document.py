"""The JSON documents of ``gate``: a verdict with everything that it rests on, and the gate's own error rates."""

from typing import Literal

from pydantic import ConfigDict

from deeplab_spec.views.document import Document, Model

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]


class _Model(Model):
    model_config = ConfigDict(from_attributes=True)


class GateCaseModel(_Model):
    """What was timed."""

    name: str
    reason: str
    device: str
    variant: str
    choices: dict[str, str | float]
    output_stride: int
    size: tuple[int, int]
    batch: int
    direction: str
    mode: str
    rounds: int
    threads: int


class RuleModel(_Model):
    """When a case is decided; ``alpha`` is shared by all cases, ``beta`` is of each; a fixed rule looks once."""

    margin: float
    alpha: float
    beta: float
    max_pairs: int
    fixed: bool = False
    cases: int
    looks: tuple[int, ...]
    fails_above: float
    passes_below: float


class EstimateModel(_Model):
    """The slowdown as a logarithm of head's time over base's, with the bounds that decide."""

    pairs: int
    log_ratio: float
    low: float
    high: float


class DecisionModel(_Model):
    """A verdict of the clock; ``estimate`` is null where fewer than two pairs counted."""

    verdict: Verdict
    estimate: EstimateModel | None


class PairModel(_Model):
    """A pair of fresh processes; ``apart`` and ``drift`` say how far their clocks moved, as factors."""

    log_ratio: float
    base_seconds: float
    head_seconds: float
    witness_ratio: float
    apart: float = 1.0
    drift: float = 1.0
    mhz: tuple[float, float] | None = None
    slowed_by: str = ""
    seconds: float
    device: str
    torch: str


class PairSetModel(_Model):
    """What the second set of pairs says, where the first said FAIL."""

    decision: DecisionModel
    pairs: tuple[PairModel, ...]
    dropped: int
    reason: str
    seconds: float


class TimingModel(_Model):
    """What the clock says; the pairs are those of the first set, and ``dropped`` of it had unequal or moving clocks."""

    decision: DecisionModel
    pairs: tuple[PairModel, ...]
    dropped: int
    reason: str
    seconds: float
    confirmation: PairSetModel | None = None


class CountsModel(_Model):
    """Exact counts of one side, for one image."""

    parameters: int
    flops: int
    bytes: int
    ops: int
    uncounted: int
    digest: str


class CountVerdictModel(_Model):
    """Exact counts of both sides; ``increases`` are relative."""

    base: CountsModel
    head: CountsModel
    increases: dict[str, float]
    differences: tuple[str, ...]
    verdict: Verdict


class CaseResultModel(_Model):
    """The verdict on one case; ``counts`` is null where a graph could not be read, and the reason says why.

    ``built`` says what was built for base and for head, with every argument; null where no pair counted.
    """

    case: GateCaseModel
    counts: CountVerdictModel | None
    counts_reason: str
    timing: TimingModel
    verdict: Verdict
    built: tuple[str, str] | None = None


class PlantModel(_Model):
    """What was done to head on purpose: a wait as a share of its own time, or another mode."""

    wait: float
    mode: str | None


class GateDocument(Document, _Model):
    """The document of ``gate --json``; ``plant`` is null where nothing was done to head."""

    base: str
    head: str
    rule: RuleModel
    count_margin: float
    witness_factor: float
    cases: tuple[CaseResultModel, ...]
    verdict: Verdict
    machine: dict[str, str | int]
    seconds: float
    plant: PlantModel | None = None
    confirming_alpha: float | None = None
    drift_factor: float | None = None


class RateModel(_Model):
    """How trials end; ``low`` and ``high`` are the 95 % Wilson interval of the share that ends in FAIL."""

    trials: int
    failed: int
    passed: int
    low: float
    high: float
    rate: float


class OutcomeModel(_Model):
    """What the gate does under one condition: what was recorded first, what was resampled after it.

    ``first_set`` is what the first sets of the resampled trials say, before a second one confirms a FAIL.
    """

    name: str
    slowdown: float | None
    recorded: int
    dropped: int
    measured: float
    spread: float
    consecutive: RateModel
    resampled: RateModel
    first_set: RateModel | None = None
    recordings_low: float
    recordings_high: float
    pairs: float
    seconds: float
    slow_seconds: float


class CurvePointModel(_Model):
    """Detection of a slowdown that was added to the A/A recordings by arithmetic; resampled."""

    slowdown: float
    rate: float


class CalibrationDocument(Document, _Model):
    """The document of ``gate --calibrate``: the gate's error rates on one device."""

    device: str
    torch: str
    case: GateCaseModel
    target: str = ""
    built: str = ""
    protocol: int = 1
    rule: RuleModel
    confirming_alpha: float | None = None
    seed: int
    outcomes: tuple[OutcomeModel, ...]
    curve: tuple[CurvePointModel, ...]
    pair_seconds: float
    machine: dict[str, str | int]

"""The JSON documents of ``gate``: a verdict with the data that it rests on, and the gate's own error rates."""

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
    """When a case is decided; all cases share ``alpha``, each has its own ``beta``; a fixed rule looks once."""

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
    """The slowdown as the logarithm of head's time over base's, with the bounds that decide."""

    pairs: int
    log_ratio: float
    low: float
    high: float


class DecisionModel(_Model):
    """A verdict on the times; ``estimate`` is null if fewer than two pairs count."""

    verdict: Verdict
    estimate: EstimateModel | None


class PairModel(_Model):
    """A pair of fresh processes; ``apart`` and ``drift`` are the factors by which their clocks changed."""

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
    """One set of pairs; ``dropped`` counts those whose clocks differed or changed."""

    decision: DecisionModel
    pairs: tuple[PairModel, ...]
    dropped: int
    reason: str
    seconds: float


class TimingModel(PairSetModel):
    """The verdict on the times, with the pairs of the first set; ``confirmation`` is the second set after a FAIL."""

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
    """The verdict on one case; ``counts`` is null if a graph could not be read, and ``counts_reason`` says why.

    ``built`` has the calls that built base and head, with every argument; null if no pair counts.
    """

    case: GateCaseModel
    counts: CountVerdictModel | None
    counts_reason: str
    timing: TimingModel
    verdict: Verdict
    built: tuple[str, str] | None = None


class PlantModel(_Model):
    """The slowdown planted in head: a wait as a share of its own time, or another mode."""

    wait: float
    mode: str | None


class GateDocument(Document, _Model):
    """The document of ``gate --json``; ``plant`` is null if no slowdown was planted."""

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
    """How often trials end in FAIL and in PASS.

    Attributes:
        trials: The number of trials.
        failed: How many ended in FAIL.
        passed: How many ended in PASS.
        low: Lower end of the 95 % Wilson interval of the rate, which accounts for the number of trials.
        high: Its upper end.
        rate: The share of trials that ended in FAIL.
    """

    trials: int
    failed: int
    passed: int
    low: float
    high: float
    rate: float


class OutcomeModel(_Model):
    """The verdicts under one condition, from recorded pairs and from resampled ones.

    Attributes:
        name: The condition.
        slowdown: The planted slowdown; null if only the recordings show how large it is.
        recorded: Independent recordings that count.
        dropped: Recordings that were dropped because a clock differed or changed.
        measured: Relative slowdown of the recordings, their geometric mean.
        spread: Standard deviation of the recordings' log-ratios.
        consecutive: Trials of consecutive recordings, each used once.
        resampled: Trials of recordings drawn with replacement.
        first_set: The verdicts of the first sets of those trials, before a second set confirms a FAIL.
        recordings_low: 2.5 % quantile of the rate of FAIL over bootstrap samples of the recordings.
        recordings_high: 97.5 % quantile.
        pairs: Mean number of pairs until the verdict, including those that confirm it.
        seconds: Median time until the verdict.
        slow_seconds: 95 % quantile of that time.
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
    """The resampled rate of FAIL if a slowdown is added, by arithmetic, to the recordings without one."""

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

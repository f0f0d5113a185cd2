"""The JSON documents of ``gate``: a verdict with the data that it rests on, and the gate's own error rates."""

from enum import StrEnum
from typing import Final

from deeplab_spec.views.document import Document, Model


class GateVerdict(StrEnum):
    """The verdict on one case, or on all."""

    PASS = "PASS"  # noqa: S105 - a verdict
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


class GateCaseModel(Model):
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


class RuleModel(Model):
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


class Estimate(Model):
    """The slowdown as the logarithm of head's time over base's, with the bounds at this look's share of the errors."""

    pairs: int
    log_ratio: float
    low: float
    high: float


class Decision(Model):
    """A verdict on the times; ``estimate`` is null if fewer than two pairs count."""

    verdict: GateVerdict
    estimate: Estimate | None


class PairModel(Model):
    """What a pair of fresh processes measured.

    Attributes:
        log_ratio: Median over rounds of the logarithm of head's time over base's.
        base_seconds: Median of base's times.
        head_seconds: Median of head's times.
        witness_ratio: Head's median witness over base's; 1 if the clocks were equal.
        apart: The factor by which the ratio of the clocks changed during the rounds; 1 for no change.
        drift: The larger of the factors by which the two clocks changed during the rounds.
        mhz: Medians of the GPU's clock for base and head; None if unknown.
        slowed_by: Why the GPU was slowed to protect it; empty if it was not, or if that is unknown.
        seconds: How long the pair took, including the start of both processes.
        device: The device, as the processes report it.
        torch: Version of torch.
    """

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


class PairSet(Model):
    """One set of pairs; ``dropped`` counts those whose clocks differed or changed.

    ``pairs`` are those that count, ``seconds`` is the time of all; ``reason`` says why there is no decision.
    """

    decision: Decision
    pairs: tuple[PairModel, ...]
    dropped: int
    reason: str
    seconds: float


class Timing(PairSet):
    """The verdict on the times, with the pairs of the first set; ``confirmation`` is the second set after a FAIL."""

    confirmation: PairSet | None = None


class CountsModel(Model):
    """Exact counts of one side, for one image."""

    parameters: int
    flops: int
    bytes: int
    ops: int
    uncounted: int
    digest: str


class CountVerdictModel(Model):
    """Exact counts of both sides; ``increases`` are relative."""

    base: CountsModel
    head: CountsModel
    increases: dict[str, float]
    differences: tuple[str, ...]
    verdict: GateVerdict


class CaseResultModel(Model):
    """The verdict on one case; ``counts`` is null if a graph could not be read, and ``counts_reason`` says why.

    ``built`` has the calls that built base and head, with every argument; null if no pair counts.
    """

    case: GateCaseModel
    counts: CountVerdictModel | None
    counts_reason: str
    timing: Timing
    verdict: GateVerdict
    built: tuple[str, str] | None = None


class Plant(Model):
    """A slowdown that is planted in head, to test whether the gate detects it.

    Attributes:
        wait: Every run waits for this share of its own time.
        mode: Head runs in this mode instead of the case's mode.
    """

    wait: float = 0.0
    mode: str | None = None


NO_PLANT: Final = Plant()


class GateDocument(Document):
    """The document of ``gate --json``; ``plant`` is null if no slowdown was planted."""

    base: str
    head: str
    rule: RuleModel
    count_margin: float
    witness_factor: float
    cases: tuple[CaseResultModel, ...]
    verdict: GateVerdict
    machine: dict[str, str | int]
    seconds: float
    plant: Plant | None = None
    confirming_alpha: float | None = None
    drift_factor: float | None = None


class RateModel(Model):
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


class OutcomeModel(Model):
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


class CurvePointModel(Model):
    """The resampled rate of FAIL if a slowdown is added, by arithmetic, to the recordings without one."""

    slowdown: float
    rate: float


class CalibrationDocument(Document):
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

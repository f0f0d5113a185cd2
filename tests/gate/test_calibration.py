"""The gate's own error rates: recordings, their conditions, and trials that resample them."""

import json
import random
from collections import Counter
from dataclasses import replace
from math import log1p
from pathlib import Path

import pytest

from deeplab_spec.errors import RenamedWarning, SpecError, TargetError
from deeplab_spec.gate import calibrate as gate_calibration
from deeplab_spec.gate import recordings as gate_recordings
from deeplab_spec.gate.calibrate import TRIALS, calibrate, outcome, rate, wilson
from deeplab_spec.gate.cases import CPU_FORWARD, Case, Device, case, cpu
from deeplab_spec.gate.document import NO_PLANT, CalibrationDocument, GateVerdict, Plant
from deeplab_spec.gate.recordings import (
    PROTOCOL,
    SAME,
    Condition,
    Recorder,
    Recordings,
    conditions,
    schedule,
)
from deeplab_spec.gate.request import GateRequest, Settings
from deeplab_spec.gate.rule import Rule
from deeplab_spec.gate.sides import Side
from tests.support.gate_pairs import FakeProcesses, make_pair

RULE = Rule()
SIDE = Side(name="m:build", target="m:build", paths=())
HERE = Device(name="a processor, 2 cores", file="a-processor-2-cores")


class FakePairs:
    """Returns pairs with known noise; a folded or channels_last base is 15 % faster than eager."""

    def __init__(self, spread: float = 0.02) -> None:
        self.chance = random.Random(3)  # noqa: S311 - repeatable draws
        self.spread = spread
        self.calls = 0
        self.numbers: list[tuple[str, Plant, int]] = []

    def __call__(
        self, case: Case, base: Side, head: Side, timeout: float, *, number: int, plant: Plant = NO_PLANT
    ) -> FakeProcesses:
        """Start the next pair."""
        assert base is head
        assert timeout == 9.0
        self.calls += 1
        self.numbers.append((case.mode, plant, number))
        size = log1p(plant.wait) + (log1p(0.15) if plant.mode else 0.0)
        assert bool(plant.mode) == (case.mode != "eager")
        return FakeProcesses(make_pair(size + self.chance.gauss(0, self.spread)), [], number)


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> FakePairs:
    """Measure nothing, on a device that is always the same."""
    fake = FakePairs()
    monkeypatch.setattr(gate_calibration, "device_of", lambda _: HERE)
    monkeypatch.setattr(gate_recordings, "PairProcesses", fake)
    monkeypatch.setattr(gate_calibration, "_OUTER", 40)
    return fake


def recorder(case: Case = CPU_FORWARD, rule: Rule = RULE, device: Device = HERE, ahead: int = 1) -> Recorder:
    """Return a recorder of one target."""
    return Recorder(case=case, side=SIDE, rule=rule, device=device, timeout=9.0, ahead=ahead)


def record(file: Path, recordings: int, by: Recorder | None = None) -> Recordings:
    """Record without showing progress."""
    return (by or recorder()).record(file, recordings, lambda *_: None)


def calibrated(folder: Path, recordings: int = 216) -> CalibrationDocument:
    """Calibrate with fake pairs."""
    settings = Settings(rule=RULE, timeout=9.0, ahead=1)
    request = GateRequest(base=SIDE.name, head=SIDE.name, settings=settings)
    return calibrate(folder, request, recordings, 0, lambda *_: None)[1]


def test_an_interrupted_recording_goes_on(pairs: FakePairs, tmp_path: Path) -> None:
    """Pairs in the file are kept, and are not recorded again."""
    file = tmp_path / "r.jsonl"
    record(file, 30)
    first = file.read_text()
    recordings = record(file, 216, recorder(ahead=4))
    record(file, 216)

    assert pairs.calls == 216
    assert len(set(pairs.numbers)) == 216, "the pairs of each condition are numbered separately"
    assert file.read_text().startswith(first)
    assert Counter(name for name, _ in recordings) == Counter(
        condition.name for condition in schedule(conditions(CPU_FORWARD, RULE), 216)
    )


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (recorder(case=replace(CPU_FORWARD, rounds=3)), "case"),
        (recorder(rule=Rule(margin=0.2)), "margin"),
        (recorder(device=cpu("model name : X\nmodel : 143", 2)), "device"),
        (replace(recorder(), side=replace(SIDE, name="m:other")), "target"),
    ],
    ids=["case", "margin", "device", "target"],
)
def test_recordings_of_something_else_are_refused(
    other: Recorder, named: str, pairs: FakePairs, tmp_path: Path
) -> None:
    """A file has one device, one case, one margin and one target."""
    file = tmp_path / "r.jsonl"
    record(file, 3)

    with pytest.raises(SpecError, match=rf"must hold recordings of the same {named} \(name another directory"):
        record(file, 3, other)
    assert pairs.calls == 3


def test_recordings_of_another_protocol_are_refused(pairs: FakePairs, tmp_path: Path) -> None:
    """Another way of measuring has another spread. Files of early releases have no protocol."""
    file = tmp_path / "r.jsonl"
    record(file, 3)
    first, *lines = file.read_text().splitlines()
    header = json.loads(first)
    assert header["protocol"] == PROTOCOL
    del header["protocol"], header["device"]
    file.write_text("\n".join([json.dumps(header), *lines]))

    with pytest.raises(SpecError, match=r"the same protocol, device .*protocol None, device None"):
        record(file, 3)
    assert pairs.calls == 3


def test_recordings_with_the_old_name_of_a_mode_are_accepted(pairs: FakePairs, tmp_path: Path) -> None:
    """Only the name has changed."""
    file = tmp_path / "r.jsonl"
    by = recorder(case=replace(CPU_FORWARD, mode="autocast-bfloat16"))
    header = by._header()
    header["case"]["mode"] = "bf16"
    file.write_text(json.dumps(header) + "\n")

    with pytest.warns(RenamedWarning, match="'bf16' is now called 'autocast-bfloat16'"):
        assert by._read(file) == []
    assert pairs.calls == 0


def test_a_broken_line_is_a_target_error(pairs: FakePairs, tmp_path: Path) -> None:
    """A run may have been interrupted in the middle of a line."""
    file = tmp_path / "r.jsonl"
    record(file, 3)
    file.write_text(file.read_text()[:-20])
    with pytest.raises(TargetError, match="line 4 is not a recording"):
        record(file, 3)
    assert pairs.calls == 3


def test_conditions_alternate_in_proportion_to_their_shares() -> None:
    """A disturbance of some minutes must affect all conditions."""
    planned = conditions(CPU_FORWARD, RULE)
    order = [condition.name for condition in schedule(planned, 216)]

    assert Counter(order) == {
        "A/A": 72,
        "wait 0.1": 72,
        "wait 0.03": 16,
        "wait 0.05": 16,
        "lost channels_last": 16,
        "unfused BN": 16,
        "wait 0.2": 8,
    }
    assert len(set(order[:16])) == len(planned)
    assert 30 <= order[:108].count(SAME) <= 42


def test_conditions_follow_the_case() -> None:
    """A lost optimisation needs a base that has it; a training step cannot be folded."""
    lost = {entry.name: entry for entry in conditions(case("gpu-throughput"), RULE)}
    train = {entry.name for entry in conditions(case("cpu-train"), RULE)}

    assert (lost["lost channels_last"].base_mode, lost["lost channels_last"].plant.mode) == (
        "channels_last+autocast-bfloat16",
        "autocast-bfloat16",
    )
    assert lost["unfused BN"].base_mode == "folded+autocast-bfloat16"
    assert "unfused BN" not in train
    assert {entry.slowdown for entry in lost.values()} == {0.0, 0.03, 0.05, 0.1, 0.2, None}


def test_a_calibration_has_the_rates_of_recordings_and_of_trials(pairs: FakePairs, tmp_path: Path) -> None:
    """With 2 % noise both error rates are within their bounds."""
    document = calibrated(tmp_path)
    by_name = {entry.name: entry for entry in document.outcomes}
    same, planted = by_name["A/A"], by_name["wait 0.1"]

    assert pairs.calls == 216
    assert (same.recorded, same.resampled.trials, planted.recorded) == (72, TRIALS, 72)
    assert TRIALS >= 1000
    assert same.resampled.rate <= 0.01
    assert planted.resampled.rate >= 0.95
    assert same.recordings_low <= same.resampled.rate <= same.recordings_high
    assert 0 < same.consecutive.trials <= 72 // 6
    assert same.seconds == 36.0
    assert planted.seconds > 36.0, "the pairs that confirm a FAIL take time, too"
    assert planted.first_set.failed >= planted.resampled.failed
    assert planted.recordings_low >= 0.85
    assert (document.device, document.protocol, document.built) == (HERE.name, PROTOCOL, "m:build()")
    assert by_name["unfused BN"].measured == pytest.approx(0.15, abs=0.02)
    rates = [point.rate for point in document.curve]
    assert (document.curve[0].slowdown, document.curve[-1].slowdown) == (0.0, 0.2)
    assert rates[0] <= 0.01
    assert rates[-1] == 1.0
    assert calibrated(tmp_path) == document, "the seed decides the trials, and nothing is recorded again"
    assert pairs.calls == 216


def test_disturbed_recordings_are_dropped_and_counted() -> None:
    """Their ratios would change the rates."""
    condition = Condition(name="x", slowdown=0.0, share=1, base_mode="eager", plant=NO_PLANT)
    recordings = [
        *(make_pair(0.001 * number) for number in range(20)),
        make_pair(9.0, witness_ratio=2.0),
        make_pair(9.0, drift=2.0),
    ]
    result = outcome(condition, recordings, RULE, random.Random(0))  # noqa: S311 - repeatable draws

    assert (result.recorded, result.dropped) == (20, 2)
    assert result.measured < 0.02
    with pytest.raises(TargetError, match="1 recordings are too few"):
        outcome(condition, recordings[-3:], RULE, random.Random(0))  # noqa: S311 - repeatable draws


def test_consecutive_trials_use_each_recording_once() -> None:
    """Twenty equal recordings are three trials of six; the other two are left out."""
    condition = Condition(name="x", slowdown=0.0, share=1, base_mode="eager", plant=NO_PLANT)
    result = outcome(condition, [make_pair(0.0) for _ in range(20)], RULE, random.Random(0))  # noqa: S311 - repeatable draws

    assert (result.consecutive.trials, result.consecutive.passed, result.pairs) == (3, 3, 6.0)


def test_consecutive_trials_confirm_a_fail_with_the_recordings_that_follow() -> None:
    """Thirty slow recordings are two trials of twelve: six that fail, six that confirm it."""
    condition = Condition(name="x", slowdown=0.2, share=1, base_mode="eager", plant=NO_PLANT)
    result = outcome(condition, [make_pair(0.2) for _ in range(30)], RULE, random.Random(0))  # noqa: S311 - repeatable draws

    assert (result.consecutive.trials, result.consecutive.failed, result.pairs) == (2, 2, 12.0)


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [(0, 300, (0.0, 0.01264)), (15, 300, (0.03054, 0.08085)), (300, 300, (0.98736, 1.0)), (0, 0, (0.0, 1.0))],
)
def test_wilson_intervals_are_those_of_the_formula(successes: int, trials: int, expected: tuple[float, float]) -> None:
    """The expected values come from another program."""
    assert wilson(successes, trials) == pytest.approx(expected, abs=5e-5)
    assert rate([GateVerdict.FAIL, GateVerdict.PASS]).rate == 0.5
    assert rate([]).rate == 0.0


def test_a_calibration_needs_recordings(tmp_path: Path) -> None:
    """It is refused before a process starts."""
    with pytest.raises(SpecError, match="--recordings"):
        calibrated(tmp_path, 0)

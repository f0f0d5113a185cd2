"""The command ``gate``: exit status, reports, documents, storage, and one real run of equal sides."""

import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from deeplab_spec.cli import gate as gate_command
from deeplab_spec.cli.app import main
from deeplab_spec.errors import TargetError
from deeplab_spec.gate import calibrate as gate_calibration
from deeplab_spec.gate import recordings as gate_recordings
from deeplab_spec.gate import rule as gate_rule
from deeplab_spec.gate import service as gate_service
from deeplab_spec.gate.cases import CPU_FORWARD, Case
from deeplab_spec.gate.document import (
    NO_PLANT,
    CalibrationDocument,
    CountsModel,
    CountVerdictModel,
    GateDocument,
    Plant,
)
from tests.support.gate_pairs import FakeProcesses, make_pair

NETWORK = """
    from torch import nn

    def build():
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
"""
COUNTS = CountsModel(parameters=120, flops=1000, bytes=4000, ops=3, uncounted=0, digest="ab" * 32)


def run(*arguments: str) -> int:
    """Run the program in this process, and return its exit status."""
    with pytest.raises(SystemExit) as exited:
        main(["gate", *arguments])
    return int(exited.value.code or 0)


class Machine:
    """Stands in for everything that is measured: log-ratios of pairs, and counts of head."""

    def __init__(self) -> None:
        self.log_ratios = [0.001, -0.001]
        self.head = COUNTS
        self.witness = 1.0
        self.number = 0
        self.cases: list[Case] = []
        self.plants: list[Plant] = []

    def start(self, case: Case, *_: object, number: int, plant: Plant) -> FakeProcesses:
        """Start the next pair."""
        self.number += 1
        self.cases.append(case)
        self.plants.append(plant)
        ratio = self.log_ratios[self.number % len(self.log_ratios)]
        return FakeProcesses(make_pair(ratio, witness_ratio=self.witness), [], number)

    def counts(self, *_: object) -> tuple[CountVerdictModel, str]:
        """Return the counts of both sides."""
        grown = (self.head.flops - COUNTS.flops) / COUNTS.flops
        verdict = CountVerdictModel(
            base=COUNTS,
            head=self.head,
            increases={"flops": grown} if grown > 0 else {},
            differences=(),
            verdict="FAIL" if grown > 0.01 else "PASS",
        )
        return verdict, ""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Measure nothing."""
    pytest.importorskip("torch")
    fake = Machine()
    monkeypatch.setattr(gate_service, "PairProcesses", fake.start)
    monkeypatch.setattr(gate_recordings, "PairProcesses", fake.start)
    monkeypatch.setattr(gate_calibration, "_OUTER", 40)
    monkeypatch.setattr(gate_service, "compare_counts", fake.counts)
    return fake


SIDES = ("reference:notebook", "reference:notebook")


@pytest.mark.parametrize(
    ("log_ratios", "status", "word"),
    [([0.001, -0.001], 0, "PASS"), ([0.2, 0.21], 1, "FAIL"), ([0.9, -0.9], 4, "INCONCLUSIVE")],
)
def test_the_exit_status_is_the_verdict(
    log_ratios: list[float], status: int, word: str, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last line of the report has it, too."""
    machine.log_ratios = log_ratios

    assert run(*SIDES) == status
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].startswith(word)
    plan, built = captured.err.splitlines()
    assert plan.startswith("cpu-forward: 1x3x97x97, forward, eager, cpu; 6 to 32 pairs of processes, 1 thread and 60")
    assert built == "cpu-forward: base and head are m:build()"
    assert "cpu-forward: base and head are m:build()" in captured.out


def test_more_operations_fail_even_if_the_times_are_equal(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Two percent more operations are a FAIL, half a percent is reported."""
    machine.head = COUNTS.model_copy(update={"flops": 1020, "digest": "cd" * 32})
    assert run(*SIDES) == 1
    assert "cpu-forward: flops grew by 2 %, from 1,000 to 1,020" in capsys.readouterr().out
    machine.head = COUNTS.model_copy(update={"flops": 1005, "uncounted": 2})
    assert run(*SIDES) == 0
    report = capsys.readouterr().out
    assert "flops grew by 0.5 %" in report
    assert "2 operations of head are not counted" in report
    assert "both sides have the same graph, abababababab" in report


def test_clocks_that_differ_are_inconclusive(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """No pair counts."""
    machine.witness = 1.5

    assert run(*SIDES) == 4
    assert "the clocks differed in 6 of 6 pairs" in capsys.readouterr().out


def test_one_failing_case_fails_all(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    """The cases share the error of a false alarm."""
    numbers: list[int] = []

    def start(case: Case, *_: object, number: int, plant: Plant) -> FakeProcesses:
        machine.log_ratios = [0.3, 0.31] if case.name == "cpu-train" else [0.001, -0.001]
        return machine.start(case, number=number, plant=plant)

    monkeypatch.setattr(gate_service, "PairProcesses", start)
    inner = gate_service.time_case
    monkeypatch.setattr(
        gate_service, "time_case", lambda rule, *rest: (numbers.append(rule.cases), inner(rule, *rest))[1]
    )

    assert run(*SIDES, "--case", "cpu-forward", "--case", "cpu-train") == 1
    assert set(numbers) == {2}


def test_the_report_of_a_fail_has_its_confirmation_and_what_it_does_not_exclude(
    machine: Machine, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Both sets of processes may have the same layout in memory."""
    machine.log_ratios = [0.2, 0.21]
    assert run(*SIDES, "--json", "--summary", str(tmp_path / "gate.md")) == 1
    document = GateDocument.model_validate_json(capsys.readouterr().out)
    lines = (tmp_path / "gate.md").read_text().splitlines()

    assert sum("what this FAIL does not exclude" in line and "+27 %" in line for line in lines) == 1
    assert any("a second set of 6 pairs of fresh processes confirms it: head takes +22.8 %" in line for line in lines)
    assert document.cases[0].timing.confirmation
    assert len(document.cases[0].timing.confirmation.pairs) == 6
    assert (document.schema_version, document.confirming_alpha, document.plant) == (1, 0.1, None)
    assert run(*SIDES, "--max-pairs", "6") == 1
    machine.log_ratios = [0.001, -0.001]
    assert run(*SIDES) == 0
    assert "does not exclude" not in capsys.readouterr().out.rpartition("case ")[2]


@pytest.mark.parametrize(
    ("text", "plant", "shown"),
    [
        ("wait=0.03", Plant(wait=0.03), "every run of head waits for 3 % of its own time"),
        ("mode=channels_last", Plant(mode="channels_last"), "head runs in mode channels_last"),
    ],
)
def test_a_planted_slowdown_is_shown_with_every_verdict(
    text: str, plant: Plant, shown: str, machine: Machine, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A reader must not take it for a slowdown of the code."""
    page = tmp_path / "gate.md"
    assert run(*SIDES, "--plant", text, "--json", "--summary", str(page), "--save", str(tmp_path)) == 0
    captured = capsys.readouterr()
    document = GateDocument.model_validate_json(captured.out)
    [stored_file] = tmp_path.glob("*/*.json")

    assert set(machine.plants) == {plant}
    assert document.plant
    assert (document.plant.wait, document.plant.mode) == (plant.wait, plant.mode)
    assert f"PASS WITH A PLANTED SLOWDOWN ({shown}): reference:notebook" in page.read_text()
    assert f"WITH A PLANTED SLOWDOWN ({shown})" in captured.err
    assert json.loads(stored_file.read_text())["benchmarks"][0]["extra_info"]["plant"] == {
        "wait": plant.wait,
        "mode": plant.mode,
    }
    assert run(*SIDES, "--plant", "none") == 0
    assert "PLANTED" not in capsys.readouterr().out
    assert machine.plants[-1] == NO_PLANT


def test_a_fixed_number_of_pairs_is_measured(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Six pairs would decide."""
    assert run(*SIDES, "--pairs", "9", "--json") == 0
    captured = capsys.readouterr()
    document = GateDocument.model_validate_json(captured.out)

    assert machine.number == len(document.cases[0].timing.pairs) == 9
    assert (document.rule.fixed, document.rule.looks) == (True, (9,))
    assert "; 9 pairs of processes, 1 thread" in captured.err


def test_options_change_a_case(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything else stays as in the case."""
    own = ("--size", "65x33", "--batch", "2", "--output-stride", "8", "--threads", "3", "--rounds", "5")
    more = ("--mode", "folded+channels_last", "--choose", "width=0.5", "--choose", "aspp_rates=6,12,18")
    assert run(*SIDES, *own, *more, "--json") == 0
    captured = capsys.readouterr()
    [entry] = GateDocument.model_validate_json(captured.out).cases

    case = machine.cases[0]
    assert (case.name, case.size, case.batch, case.output_stride) == ("cpu-forward-changed", (65, 33), 2, 8)
    assert (case.threads, case.rounds, case.mode, case.direction) == (3, 5, "folded+channels_last", "forward")
    assert case.choices == {"width": 0.5, "aspp_rates": "6,12,18"}
    assert entry.case.choices == dict(case.choices)
    assert "cpu-forward-changed: 2x3x65x33, forward, folded+channels_last, cpu; 6 to 32" in captured.err
    assert "3 threads and 5 rounds each" in captured.err


def test_a_device_chooses_its_case_and_several_cases_can_be_changed(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option changes every named case."""
    assert run(*SIDES, "--device", "cuda") == 0
    assert machine.cases[-1].name == "gpu-latency"
    assert "6 pairs started together" in capsys.readouterr().err
    assert run(*SIDES, "--case", "cpu-train", "--case", "cpu-os8", "--batch", "3", "--ahead", "2") == 0
    changed = {case.name: case for case in machine.cases[-12:]}
    assert set(changed) == {"cpu-train-changed", "cpu-os8-changed"}
    assert {case.batch for case in changed.values()} == {3}
    assert run(*SIDES, "--case", "cpu-train", "--device", "cuda", "--direction", "forward") == 0
    assert (machine.cases[-1].device, machine.cases[-1].direction) == ("cuda", "forward")
    assert run("reference:notebook", "reference:notebook", "--variant", "notebook") == 0
    assert machine.cases[-1].required == ("variant",)


def test_an_old_name_of_a_mode_is_accepted_with_a_warning(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """The warning is one line."""
    assert run(*SIDES, "--mode", "bn_folded+bf16") == 0
    assert "deeplab-spec: 'bf16' is now called 'autocast-bfloat16'\n" in capsys.readouterr().err
    assert machine.cases[-1].mode == "folded+autocast-bfloat16"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("reference:notebook",),
        (*SIDES, "--calibrate", "x"),
        (*SIDES, "--case", "fast"),
        (*SIDES, "--margin", "0"),
        (*SIDES, "--max-pairs", "2"),
        (*SIDES, "--count-margin", "-1"),
        (*SIDES, "--timeout", "0"),
        (*SIDES, "--arg", "width"),
        (*SIDES, "--target", "nothing"),
        (*SIDES, "--pairs", "5"),
        (*SIDES, "--pairs", "8", "--max-pairs", "16"),
        (*SIDES, "--ahead", "0"),
        (*SIDES, "--plant", "wait=-0.1"),
        (*SIDES, "--plant", "wait=much"),
        (*SIDES, "--plant", "sleep=0.1"),
        (*SIDES, "--plant", "mode=quick"),
        (*SIDES, "--plant", "mode=folded", "--direction", "train"),
        (*SIDES, "--size", "97x"),
        (*SIDES, "--batch", "0"),
        (*SIDES, "--threads", "0"),
        (*SIDES, "--rounds", "0"),
        (*SIDES, "--device", "tpu"),
        (*SIDES, "--direction", "backward"),
        (*SIDES, "--mode", "quick"),
        (*SIDES, "--choose", "width"),
        (*SIDES, "--choose", "length=2"),
        (*SIDES, "--variant", "xception"),
        (*SIDES, "--variant", "tf-release"),
        ("reference:notebook", "--calibrate", "x", "--plant", "wait=0.1"),
        ("reference:xception", "reference:notebook"),
    ],
    ids=" ".join,
)
def test_bad_arguments_are_usage_errors(arguments: tuple[str, ...], machine: Machine) -> None:
    """Exit status 2, before anything is measured."""
    assert run(*arguments) == 2
    assert machine.number == 0


def test_a_side_that_cannot_run_is_status_3(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing baseline, and a crash during the run."""
    assert run("no-such-checkout", "reference:notebook") == 3
    assert "no-such-checkout: there is no such directory" in capsys.readouterr().err

    def crash(case: Case, *_: object, number: int, plant: Plant) -> FakeProcesses:
        if machine.number == 3:
            raise TargetError("head (x)", "the process was ended by SIGSEGV")
        return machine.start(case, number=number, plant=plant)

    monkeypatch.setattr(gate_service, "PairProcesses", crash)
    assert run(*SIDES) == 3
    captured = capsys.readouterr()
    assert captured.err.endswith("deeplab-spec: head (x): the process was ended by SIGSEGV\n")
    assert "PASS" not in captured.out


@pytest.mark.usefixtures("machine")
def test_the_json_document_has_the_printed_schema(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The document has every pair, and the estimate of the verdict."""
    assert run(*SIDES, "--json", "--margin", "0.2") == 0
    text = capsys.readouterr().out
    document = GateDocument.model_validate_json(text)
    assert run("--json-schema") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(GateDocument.model_json_schema()))
    assert run("--json-schema", "--calibrate", str(tmp_path)) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(CalibrationDocument.model_json_schema()))

    assert (document.verdict, document.rule.margin, len(document.cases[0].timing.pairs)) == ("PASS", 0.2, 6)
    assert document.cases[0].timing.decision.estimate
    assert document.cases[0].timing.decision.estimate.pairs == 6
    assert document.cases[0].counts
    assert document.cases[0].counts.head.flops == 1000
    assert json.loads(text)["machine"]["torch"]


def stored(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[Path]:
    """Store two runs, and return their files."""
    for _ in range(2):
        assert run(*SIDES, "--save", str(folder)) == 0
    capsys.readouterr()
    return sorted(folder.glob("*/*.json"))


def test_a_stored_file_has_the_fields_of_pytest_benchmark(
    machine: Machine, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Every statistic has the value that pytest-benchmark computes."""
    stats = pytest.importorskip("pytest_benchmark.stats")
    machine.log_ratios = [0.01, 0.02, -0.01, 0.0, 0.3, -0.02, 0.015]
    run(*SIDES, "--save", str(tmp_path), "--max-pairs", "12")
    document = json.loads(next(tmp_path.glob("*/0001_gate.json")).read_text())
    entries: dict[str, Any] = {entry["name"]: entry for entry in document["benchmarks"]}
    capsys.readouterr()

    assert set(entries) == {"cpu-forward[base]", "cpu-forward[head]"}
    entry = entries["cpu-forward[head]"]
    expected = stats.Stats()
    for value in entry["stats"]["data"]:
        expected.update(value)
    for field in ("min", "max", "mean", "stddev", "rounds", "median", "ops", "total", "stddev_outliers"):
        assert entry["stats"][field] == pytest.approx(getattr(expected, field)), field
    assert entry["stats"]["min"] <= entry["stats"]["q1"] <= entry["stats"]["q3"] <= entry["stats"]["max"]
    assert entry["extra_info"]["verdict"] in {"PASS", "FAIL", "INCONCLUSIVE"}
    assert set(document["commit_info"]) >= {"id", "dirty", "time", "branch"}


@pytest.mark.usefixtures("machine")
def test_pytest_benchmark_compares_what_was_stored(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Its commands ``list`` and ``compare`` read the files."""
    pytest.importorskip("pytest_benchmark")
    first, second = stored(tmp_path, capsys)
    assert (first.name, second.name) == ("0001_gate.json", "0002_gate.json")
    code = "from pytest_benchmark.cli import main; main()"
    command = [sys.executable, "-c", code, "--storage", f"file://{tmp_path}"]
    listed = subprocess.run([*command, "list"], capture_output=True, text=True, check=False)
    compared = subprocess.run([*command, "compare", "--group-by", "group"], capture_output=True, text=True, check=False)

    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.split() == [str(first), str(second)]
    assert compared.returncode == 0, compared.stderr
    assert "benchmark 'cpu-forward': 4 tests" in compared.stdout
    assert "cpu-forward[head] (0002_gate)" in compared.stdout


@pytest.mark.usefixtures("machine")
def test_the_summary_is_markdown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """GitHub shows it with a pull request."""
    page = tmp_path / "gate.md"
    assert run(*SIDES, "--summary", str(page), "-o", str(tmp_path / "report.txt")) == 0
    lines = page.read_text().splitlines()

    assert lines[0].startswith("### PASS: reference:notebook against reference:notebook, margin 10 %")
    assert lines[2].startswith("| case | verdict |")
    assert capsys.readouterr().out == ""


def test_calibration_writes_a_document_a_page_and_a_picture(
    machine: Machine, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The page separates recordings from resampled trials."""
    assert run("reference:notebook", "--calibrate", str(tmp_path), "--recordings", "54") == 0
    headline = capsys.readouterr().out
    [document] = list(tmp_path.glob("*.json"))
    calibration = CalibrationDocument.model_validate_json(document.read_text())
    page = document.with_suffix(".md").read_text()
    picture = ET.fromstring(document.with_suffix(".svg").read_text())  # noqa: S314 - written by this test

    assert sum(entry.recorded for entry in calibration.outcomes) == 54
    assert headline.strip() in page
    assert page.index("## Recorded") < page.index("Trials of consecutive recordings") < page.index("## Resampled")
    assert "54 pairs of fresh processes, each one independent observation" in page
    assert "| wait 0.1 | 2000 |" in page
    assert "Case `cpu-forward`: m:build(), 1x3x97x97, forward, eager" in page
    assert "Protocol 2." in page
    assert "identical binaries have shown a stable +27 %" in page.split("## What a verdict does not exclude")[1]
    assert (calibration.target, calibration.built, calibration.protocol) == ("reference:notebook", "m:build()", 2)
    assert all(entry.first_set for entry in calibration.outcomes)
    assert f"({document.stem}.svg)" in page
    namespace = "{http://www.w3.org/2000/svg}"
    assert len(picture.findall(f".//{namespace}circle")) == 5
    assert (tmp_path / f"{document.stem}.recordings.jsonl").read_text().count("\n") == 55
    before = machine.number
    assert run("reference:notebook", "--calibrate", str(tmp_path), "--recordings", "54") == 0
    assert machine.number == before == 54


def test_only_one_case_can_be_calibrated_at_once(machine: Machine, tmp_path: Path) -> None:
    """Each case has its own rates."""
    assert run("reference:notebook", "--calibrate", str(tmp_path), "--case", "cpu-train", "--case", "cpu-os8") == 2
    assert machine.number == 0


def test_equal_checkouts_are_decided_by_real_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the sizes are small. Any verdict may come, but the document must be complete."""
    pytest.importorskip("torch")
    monkeypatch.setattr(gate_rule, "MIN_PAIRS", 2)
    tiny = replace(CPU_FORWARD, name="tiny", size=(8, 8), rounds=2)
    monkeypatch.setattr(gate_command, "case_for", lambda _: tiny)
    for name in ("base", "head"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tiny_network.py").write_text(textwrap.dedent(NETWORK))
    sides = [str(tmp_path / "base"), str(tmp_path / "head")]
    status = run(*sides, "--target", "tiny_network:build", "--max-pairs", "2", "--json")
    document = GateDocument.model_validate_json(capsys.readouterr().out)
    [result] = document.cases

    assert {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 4}[document.verdict] == status
    assert len(result.timing.pairs) + result.timing.dropped >= 2
    assert all(min(pair.base_seconds, pair.head_seconds) > 0 for pair in result.timing.pairs)
    assert len({pair.log_ratio for pair in result.timing.pairs}) > 1
    assert result.built == ("tiny_network:build()", "tiny_network:build()")
    assert result.counts
    assert result.counts.verdict == "PASS"
    assert result.counts.base == result.counts.head
    assert result.counts.increases == {}
    assert result.counts.head.ops == 3


def test_a_directory_without_the_target_is_status_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An import error is never a measurement."""
    pytest.importorskip("torch")
    (tmp_path / "empty").mkdir()

    assert run(str(tmp_path / "empty"), str(tmp_path / "empty"), "--target", "tiny_network:build") == 3
    assert "No module named 'tiny_network'" in capsys.readouterr().err


def test_the_workflow_gates_and_its_summary_begins_with_what_was_not_measured() -> None:
    """Without a GPU runner the job ``gpu`` is skipped, and the job that runs says so before anything else."""
    text = (Path(__file__).parents[2] / ".github" / "workflows" / "gate.yml").read_text()
    cpu, gpu = text.split("\n  cpu:\n")[1].split("\n  gpu:\n")
    first, second = cpu.split("      - name: ")[1:3]

    assert "if: vars.GPU_RUNNER != ''" in gpu
    assert "if: vars.GPU_RUNNER == ''" in first
    assert 'note="No GPU was measured' in first
    assert 'echo "### $note" >> "$GITHUB_STEP_SUMMARY"' in first
    assert second.startswith("Gate\n")
    assert "GITHUB_STEP_SUMMARY" not in cpu.split(first)[0]
    assert "|| true" not in text
    assert "continue-on-error" not in text
    lines = text.splitlines()
    assert any("|| code=$?" in line and "gate.md" in following for line, following in pairwise(lines))
    assert text.count("exit $code") == 2

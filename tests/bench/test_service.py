"""``bench``: its processes, its document, its table, and the modes that are not timed."""

import json
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deeplab_spec
from deeplab_spec.bench import plan as bench_plan
from deeplab_spec.bench import service
from deeplab_spec.bench import worker as bench_worker
from deeplab_spec.bench.document import BenchDocument, SpeedModel, bench_grid, bench_notes, bench_page
from deeplab_spec.bench.plan import plan
from deeplab_spec.bench.process import ModeProcess, ask
from deeplab_spec.bench.request import BenchRequest, Case, Job, cases
from deeplab_spec.bench.service import bench
from deeplab_spec.measure.agreement import Reference

SPEED = SpeedModel(flops_per_second=1e11, bytes_per_second=1e10, spin_seconds=0.0025)

SMALL = BenchRequest(
    target="tests.support.networks:Small",
    cases=(Case(size=(17, 23), batch=2),),
    modes=("folded", "tf32"),
    runs=3,
)
TINY = BenchRequest(overrides=("width=0.125",), cases=(Case(size=(65, 97)),), modes=("eager",))


@pytest.fixture(scope="module")
def document() -> BenchDocument:
    """A target timed in two modes, each in its process."""
    return bench(plan(SMALL))


def test_modes_are_timed_and_compared_with_the_module(document: BenchDocument) -> None:
    """The baseline is always included, and every timed mode has all its measurements."""
    (case,) = document.cases
    eager, folded, _ = case.modes

    assert (eager.mode, folded.mode) == ("eager", "folded")
    for mode in (eager, folded):
        assert mode.status == "timed"
        assert len(mode.seconds) == document.runs == 3
        assert mode.images_per_second == pytest.approx(2 / mode.median_seconds)
        assert mode.peak_memory_bytes
        assert mode.peak_memory_bytes > 2**20
        assert mode.roofline_fraction
        assert mode.roofline_fraction > 0
        assert mode.error
        assert mode.allowed
        assert mode.error.mean <= mode.allowed.mean
        assert mode.clock
        assert mode.clock.spin_seconds > 0
    assert eager.ratio
    assert eager.ratio.median == 1
    assert case.fastest == min((eager, folded), key=lambda mode: mode.median_seconds or 0).mode
    assert document.device_name
    assert document.versions["torch"]


def test_modes_of_a_gpu_are_not_run_without_one_and_never_passed(document: BenchDocument) -> None:
    """The document and the notes have the reason instead of a number."""
    if torch.cuda.is_available():
        pytest.skip("not run: there is a CUDA device")
    (case,) = document.cases
    mode = case.modes[2]

    assert (mode.mode, mode.status, mode.reason) == ("tf32", "not run", "no CUDA device")
    assert mode.median_seconds is mode.ratio is mode.error is None
    assert "tf32: not run: no CUDA device" in bench_notes(case)
    assert bench_grid(case).rows[2][:3] == ("tf32", "not run", "-")


def test_document_fits_its_schema(document: BenchDocument) -> None:
    """It can be read again, and has exactly the fields of the schema."""
    written = document.model_dump_json()

    assert BenchDocument.model_validate_json(written) == document
    assert json.loads(written)["schema_version"] == 1
    assert set(BenchDocument.model_json_schema()["properties"]) == set(json.loads(written))


def test_page_has_every_mode_and_its_command(document: BenchDocument) -> None:
    """With one table per case."""
    page = bench_page(document, "deeplab-spec bench x")

    assert "deeplab-spec bench x" in page
    assert sum(line.startswith(("| eager", "| folded", "| tf32")) for line in page.splitlines()) == 3
    assert "fastest here: " in page


class Answering(ModeProcess):
    """A fake process with fixed answers."""

    order: list[tuple[str, str]] = []  # noqa: RUF012 - one list of all of them
    seconds = {"eager": 2.0, "folded": 1.0, "channels_last": 0.1}  # noqa: RUF012 - as above


def answered(processes: Sequence[ModeProcess], command: str, **_: object) -> dict[ModeProcess, dict[str, Any]]:
    """Return fixed answers to a command; channels_last is not equal."""
    error = {"mean": 1e-7, "most": 1e-7}
    answers: dict[ModeProcess, dict[str, Any]] = {}
    for process in processes:
        mode = process.job.mode
        Answering.order.append((mode, command))
        if command == "run":
            answers[process] = {"seconds": Answering.seconds[mode], "spin_seconds": 0.001, "megahertz": 2000.0}
        elif command.startswith("ceilings"):
            answers[process] = {"flops_per_second": 1e11, "bytes_per_second": 1e10}
        else:
            answers[process] = {
                "error": error,
                "allowed": error,
                "prepare_seconds": 1.0,
                "peak_memory_bytes": 2**30,
                "device_name": "a processor",
                "threads": 2,
                "versions": {"torch": "2"},
            }
            process.status = "refused" if mode == "channels_last" else "timed"
            process.reason = "its error is 1" if mode == "channels_last" else ""
    return answers


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use fake processes."""
    monkeypatch.setattr(service, "ModeProcess", Answering)
    monkeypatch.setattr(service, "ask", answered)
    monkeypatch.setattr(bench_plan, "measured_speed", lambda _request: SPEED)
    Answering.order.clear()


@pytest.mark.usefixtures("answering")
def test_runs_alternate_and_a_refused_mode_has_no_time() -> None:
    """Every other turn is in reverse order; the fastest mode is one of the equal ones."""
    request = replace(TINY, modes=("folded", "channels_last"), runs=4)

    (case,) = bench(plan(request)).cases

    runs = [mode for mode, command in Answering.order if command == "run"]
    assert runs[:4] == ["eager", "folded", "folded", "eager"]
    eager, folded, refused = case.modes
    assert (refused.status, refused.reason, refused.median_seconds) == ("refused", "its error is 1", None)
    assert folded.ratio
    assert (folded.ratio.median, folded.images_per_second, case.fastest) == (2, 1, "folded")
    assert folded.roofline_fraction == pytest.approx(max(case.least_flops / 1e11, 4 * case.least_numbers / 1e10))
    assert eager.peak_memory_bytes == 2**30


@pytest.mark.usefixtures("answering")
def test_batches_share_their_processes_and_every_case_is_saved_when_it_ends() -> None:
    """Earlier cases are kept if a later one fails."""
    request = replace(TINY, cases=cases(((65, 97),), (1, 8), (16, 8), ("notebook", "tf-release")))
    saved: list[BenchDocument] = []

    document = bench(plan(request), save=saved.append)

    prepared = [command for _, command in Answering.order if command.startswith("prepare")]
    assert prepared == ["prepare 1", "prepare 8"] * 4
    assert [len(each.cases) for each in saved] == list(range(1, 9))
    assert saved[-1].cases == document.cases
    assert [case.title for case in document.cases[:2]] == [
        "notebook, output stride 16, 1x3x65x97",
        "notebook, output stride 16, 8x3x65x97",
    ]
    assert document.target == "notebook with width=0.125, tf-release with width=0.125"
    assert ", ".join(dict.fromkeys(case.network for case in document.cases)) == document.target


@pytest.mark.usefixtures("answering")
def test_ceilings_are_the_highest_that_were_measured_in_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs can only lower them; with low ceilings a mode would seem to exceed the roofline."""
    monkeypatch.setattr(
        bench_plan, "measured_speed", lambda _request: SPEED.model_copy(update={"flops_per_second": 3e11})
    )

    (case,) = bench(plan(TINY)).cases

    assert case.ceilings["float32"].flops_per_second == 3e11
    assert case.ceilings["float32"].bytes_per_second == 1e10


@pytest.mark.usefixtures("answering")
def test_a_case_that_does_not_fit_into_the_time_budget_is_listed_as_left_out() -> None:
    """It is not timed with fewer runs instead."""
    request = replace(TINY, cases=cases(((65, 97),), (1, 8), (16,)), time_budget=0.5)

    document = bench(plan(request))

    assert not document.cases
    assert [entry.title for entry in document.left_out] == [
        f"notebook with width=0.125, {case.title}" for case in request.cases
    ]
    assert "its share of the time budget is 0 s, it takes about" in document.left_out[0].reason
    assert "## Left out" in bench_page(document, "x")


@pytest.mark.usefixtures("answering")
def test_a_time_budget_ends_the_turns_after_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer pairs have no interval."""
    clock = iter(range(10_000))
    monkeypatch.setattr(service, "monotonic", lambda: 5.0 * next(clock))
    request = replace(TINY, modes=("folded",), runs=50, time_budget=200.0)

    (case,) = bench(plan(request)).cases

    assert 3 <= len(case.modes[0].seconds) < 50


def small_job(mode: str = "eager", target: str = "tests.support.networks:Small") -> Job:
    """Return a job that is prepared quickly."""
    request = BenchRequest(target=target, cases=(Case(size=(17, 23)),))
    return Job(request=request, case=request.cases[0], mode=mode)


def test_a_mode_that_is_not_ready_in_time_is_ended_and_the_others_go_on() -> None:
    """Progress is reported every second meanwhile."""
    beats: list[str] = []
    with (
        ModeProcess(small_job(), 100) as good,
        ModeProcess(small_job(target="tests.support.networks:Hangs"), 15) as hanging,
    ):
        answers = ask([good, hanging], "prepare 1", at_once=2, beat=lambda modes, _done: beats.append(modes))

        assert (good.status, hanging.status) == ("timed", "failed")
        assert hanging.reason == "no answer to 'prepare 1' within 15 s"
        assert answers[good]["prepare_seconds"] > 0
        assert hanging.ended
        assert ask([good], "run")[good]["seconds"] > 0
    assert len(beats) >= 10


def test_the_end_of_a_process_is_the_reason_of_its_failure() -> None:
    """A crash does not end the run."""
    with ModeProcess(small_job(target="tests.support.networks:Dies"), 100) as process:
        assert ask([process], "prepare 1") == {process: {}}
        assert (process.status, process.reason) == ("failed", "the process ended with exit status 7")


def test_memory_of_the_certification_is_freed_before_memory_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference and its copies would count as the mode's own memory."""
    alive: list[int] = []
    references: list[weakref.ref[Reference]] = []

    class Watched(Reference):
        def __init__(self, module: nn.Module, example: Tensor) -> None:
            super().__init__(module, example)
            references.append(weakref.ref(self))

    monkeypatch.setattr(bench_worker, "Reference", Watched)
    monkeypatch.setattr(
        bench_worker, "reset_peak", lambda _device: alive.extend(each() is not None for each in references)
    )

    bench_worker.Worker(small_job("channels_last")).answer("prepare 2")

    assert alive == [False]


def test_statistics_are_those_of_the_data() -> None:
    """Every normalisation produces its own offset and scale, so that values do not grow from layer to layer."""
    module = deeplab_spec.build("notebook", choices={"width": 0.125}).eval()
    momenta = {norm.momentum for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)}
    x = torch.randn(2, 3, 65, 65, generator=torch.Generator().manual_seed(0))
    largest: list[float] = []

    bench_worker.calibrated(module, x)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.register_forward_hook(lambda _layer, _inputs, result: largest.append(float(result.abs().max())))
    with torch.no_grad():
        module(x)

    assert max(largest) < 100
    assert not module.training
    assert not any(norm.training for norm in module.modules())
    assert {norm.momentum for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)} == momenta


Run = Callable[..., CompletedProcess[str]]


@pytest.mark.deep
def test_mode_that_is_not_equal_is_refused_and_the_others_go_on(tmp_path: Path, command: Run) -> None:
    """A network whose output changes when its normalisations are folded: no time, and exit status 1."""
    arguments = ("--mode", "folded", "--size", "17", "--runs", "1", "--json", "--save", str(tmp_path / "new"))
    result = command("bench", "tests.support.networks:Particular", *arguments)

    assert result.returncode == 1, result.stderr
    eager, folded = json.loads(result.stdout)["cases"][0]["modes"]
    assert (eager["status"], folded["status"], folded["seconds"]) == ("timed", "refused", [])
    assert (tmp_path / "new" / "cpu.json").read_text() == result.stdout
    assert "--mode folded --size 17" in (tmp_path / "new" / "cpu.md").read_text()
    assert folded["reason"].startswith("does not compute what the module computes: its error is")


def test_command_times_nothing_without_the_device_and_says_so(command: Run) -> None:
    """No mode is run, and no process is started."""
    if torch.cuda.is_available():
        pytest.skip("not run: there is a CUDA device")

    result = command("bench", "--device", "cuda", "--json")

    assert result.returncode == 0, result.stderr
    (case,) = json.loads(result.stdout)["cases"]
    assert {(mode["status"], mode["median_seconds"]) for mode in case["modes"]} == {("not run", None)}
    assert case["fastest"] is None
    assert "nothing can run here" in result.stderr


def test_command_asks_before_the_wide_table(command: Run) -> None:
    """It prints its size and time first; without a terminal it needs --yes."""
    result = command("bench", "--wide", "--mode", "eager", "--choose", "width=0.125")

    assert result.returncode == 2
    assert "12 cases" in result.stderr
    assert "confirm it with --yes" in result.stderr


def test_schema_is_printed(command: Run) -> None:
    """Without a run."""
    assert json.loads(command("bench", "--json-schema").stdout)["title"] == "BenchDocument"

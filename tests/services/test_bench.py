"""``bench``: what is timed and what is not, its document, its table and its errors."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
import torch

from deeplab_spec.analysis.conventions import FULL
from deeplab_spec.analysis.costs import node_costs, total_cost
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.errors import MissingExtraError, SpecError
from deeplab_spec.measure import onnx_runtime
from deeplab_spec.measure.modes import DEFAULTS, GPU_EXAMPLES
from deeplab_spec.render.bench import BenchDocument, CeilingsModel, bench_grid, bench_notes, bench_page
from deeplab_spec.services import bench as service
from deeplab_spec.services.bench import bench, minutes, plan
from deeplab_spec.services.bench_request import WIDE, BenchRequest, Case

SMALL = BenchRequest(
    target="tests.measure.networks:Small",
    cases=(Case(size=(17, 23), batch=2),),
    modes=("bn_folded", "tf32"),
    runs=3,
)
TINY = BenchRequest(overrides=("width=0.125",), cases=(Case(size=(65, 97)),), modes=("eager",))


@pytest.fixture(scope="module")
def document() -> BenchDocument:
    """A target timed in two modes, each in its process."""
    return bench(plan(SMALL))


def test_modes_are_timed_and_held_against_the_module(document: BenchDocument) -> None:
    """The baseline is always there; every record carries what it was measured with."""
    (case,) = document.cases
    eager, folded, _ = case.modes

    assert (eager.mode, folded.mode) == ("eager", "bn_folded")
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
    """They are in the document and in the notes, with the reason and without a number."""
    if torch.cuda.is_available():
        pytest.skip("not run: there is a CUDA device")
    (case,) = document.cases
    mode = case.modes[2]

    assert (mode.mode, mode.status, mode.reason) == ("tf32", "not run", "no CUDA device")
    assert mode.median_seconds is mode.ratio is mode.error is None
    assert "tf32: not run: no CUDA device" in bench_notes(case)
    assert bench_grid(case).rows[2][:3] == ("tf32", "not run", "-")


def test_document_fits_its_schema(document: BenchDocument) -> None:
    """What is written can be read again, and unknown fields are refused."""
    written = document.model_dump_json()

    assert BenchDocument.model_validate_json(written) == document
    assert json.loads(written)["schema_version"] == 1
    assert set(BenchDocument.model_json_schema()["properties"]) == set(json.loads(written))


def test_page_has_every_mode_and_how_to_make_it_again(document: BenchDocument) -> None:
    """A table per case."""
    page = bench_page(document, "deeplab-spec bench x")

    assert "deeplab-spec bench x" in page
    assert sum(line.startswith(("| eager", "| bn_folded", "| tf32")) for line in page.splitlines()) == 3
    assert "fastest here: " in page


class Answering:
    """A process that answers as it is told, for the turns alone."""

    order: list[str] = []  # noqa: RUF012 - one list of all of them

    def __init__(self, job: Any) -> None:
        self.job = job
        self.status = "refused" if job.mode == "channels_last" else "timed"
        self.reason = "errs by 1" if job.mode == "channels_last" else ""
        self.runs: list[dict[str, float]] = []
        error = {"mean": 1e-7, "most": 1e-7}
        self.facts: dict[str, Any] = {
            "agreement": {"error": error, "allowed": error},
            "prepare_seconds": 1.0,
            "peak_memory_bytes": 2**30,
            "device_name": "a processor",
            "threads": 2,
            "versions": {"torch": "2"},
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self) -> None:
        """Run once."""
        Answering.order.append(self.job.mode)
        seconds = {"eager": 2.0, "bn_folded": 1.0, "channels_last": 0.1}[self.job.mode]
        self.runs.append({"seconds": seconds, "spin_seconds": 0.001, "megahertz": 2000.0})

    def ask(self, _precision: str) -> dict[str, float]:
        """Return the ceilings."""
        return {"flops_per_second": 1e11, "bytes_per_second": 1e10}


def test_runs_alternate_and_a_refused_mode_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other turn is in reverse; the fastest is of those that are equal."""
    monkeypatch.setattr(service, "_Process", Answering)
    Answering.order.clear()
    request = replace(TINY, modes=("bn_folded", "channels_last"), runs=4)

    (case,) = bench(plan(request)).cases

    assert Answering.order[:6] == ["eager", "bn_folded", "channels_last", "channels_last", "bn_folded", "eager"]
    eager, folded, refused = case.modes
    assert (refused.status, refused.reason, refused.median_seconds) == ("refused", "errs by 1", None)
    assert folded.ratio
    assert (folded.ratio.median, folded.images_per_second, case.fastest) == (2, 1, "bn_folded")
    assert folded.roofline_fraction == pytest.approx(max(case.flops / 1e11, case.bytes / 1e10))
    assert eager.peak_memory_bytes == 2**30


def test_costs_are_those_of_the_specification_times_the_batch() -> None:
    """Parameters are read once for the batch, values for every image."""
    one = plan(TINY).costs[0]
    three = plan(replace(TINY, cases=(Case(size=(65, 97), batch=3),))).costs[0]
    graph = TINY.subject(TINY.cases[0]).network()
    total = total_cost(node_costs(graph, shapes(graph, (65, 97)), FULL))

    assert one == (total.flops, total.bytes_read + total.bytes_written)
    assert 2 * one[0] < three[0] <= 3 * one[0]  # a normalisation's vectors are made once
    assert 3 * one[1] - three[1] == 2 * 4 * (total.sizes.parameters + total.sizes.buffers)


def test_default_modes_are_those_of_the_device_with_onnxruntime_last() -> None:
    """On a processor some of a GPU's are listed too, so that it is seen that they were not run."""
    names = [entry.name for entry in plan(replace(TINY, modes=())).entries]

    assert names == [*DEFAULTS["cpu"], *GPU_EXAMPLES, onnx_runtime.NAME]


def test_missing_packages_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default onnxruntime is not run; where it is asked for, its extra is asked for."""
    find = service.importlib.util.find_spec
    monkeypatch.setattr(onnx_runtime.importlib.util, "find_spec", lambda name: None if "onnx" in name else find(name))

    assert plan(replace(TINY, modes=())).entries[-1].missing == "it needs the extra 'onnx'"
    with pytest.raises(MissingExtraError, match="bench --mode onnxruntime needs the extra 'onnx'"):
        plan(replace(TINY, modes=("onnxruntime",)))

    monkeypatch.setattr(service.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match="bench needs the extra 'torch'"):
        plan(TINY)


def test_statement_says_what_and_how_long() -> None:
    """The wide table has every size, batch and output stride, and takes hours on a slow device."""
    found = CeilingsModel(flops_per_second=1e11, bytes_per_second=1e10)
    wide = plan(replace(TINY, cases=WIDE))

    assert len(WIDE) == 12
    assert "12 cases (output stride 8, 1x3x513x513 to output stride 16, 32x3x1024x2048): 1 modes" in wide.statement(
        found
    )
    assert wide.seconds(found) > sum(6 * flops / 1e11 for flops, _ in wide.costs)
    assert plan(TINY).statement(None).endswith("nothing can run here")
    assert minutes(3 * 3600) == "3.0 hours"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "tpu"}, "--device: must be one of cpu, cuda, but got 'tpu'"),
        ({"runs": 0}, "--runs: must be 1 or more"),
        ({"cases": (Case(batch=0),)}, "--batch: must be 1 or more"),
        ({"cases": (Case(size=(0, 5)),)}, "height and width must be 1 or more"),
        ({"variant": "deeplab"}, "variant"),
        ({"target": "a:b", "overrides": ("width=0.5",)}, "--choose: decides choices of a published network"),
    ],
)
def test_values_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    """Before anything is built."""
    with pytest.raises(SpecError, match=message):
        replace(TINY, **changes)


def test_unknown_mode_is_refused() -> None:
    """As in ``optimize``."""
    with pytest.raises(SpecError, match="mode: must be eager, or some of"):
        plan(replace(TINY, modes=("quick",)))


def command(*arguments: str) -> SimpleNamespace:
    """Run the command in a fresh interpreter."""
    result = subprocess.run(
        [sys.executable, "-m", "deeplab_spec", "bench", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return SimpleNamespace(code=result.returncode, out=result.stdout, err=result.stderr)


@pytest.mark.deep
def test_mode_that_is_not_equal_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    """A network that computes something else once its normalisations are folded: no time, and exit status 1."""
    arguments = ("--mode", "bn_folded", "--size", "17", "--runs", "1", "--json", "--save", str(tmp_path / "new"))
    result = command("tests.measure.networks:Particular", *arguments)

    assert result.code == 1, result.err
    eager, folded = json.loads(result.out)["cases"][0]["modes"]
    assert (eager["status"], folded["status"], folded["seconds"]) == ("timed", "refused", [])
    assert (tmp_path / "new" / "cpu.json").read_text() == result.out
    assert "--mode bn_folded --size 17" in (tmp_path / "new" / "cpu.md").read_text()
    assert folded["reason"].startswith("does not compute what the module computes: errs by")


def test_command_times_nothing_without_the_device_and_says_so() -> None:
    """Every mode is not run; there is no number, and no process."""
    if torch.cuda.is_available():
        pytest.skip("not run: there is a CUDA device")

    result = command("--device", "cuda", "--json")

    assert result.code == 0, result.err
    (case,) = json.loads(result.out)["cases"]
    assert {(mode["status"], mode["median_seconds"]) for mode in case["modes"]} == {("not run", None)}
    assert case["fastest"] is None
    assert "nothing can run here" in result.err


def test_command_asks_before_the_wide_table() -> None:
    """Its size and time are said first; without a terminal it takes --yes."""
    result = command("--wide", "--mode", "eager", "--choose", "width=0.125")

    assert result.code == 2
    assert "12 cases" in result.err
    assert "confirm it with --yes" in result.err


def test_schema_is_printed() -> None:
    """Without torch, and without anything being timed."""
    assert json.loads(command("--json-schema").out)["title"] == "BenchDocument"

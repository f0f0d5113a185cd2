"""The plan of ``bench``: work from the specification alone, modes, an estimate, and refused requests."""

from dataclasses import replace
from typing import Any

import pytest

from deeplab_spec import errors
from deeplab_spec.analysis.conventions import FULL, MAC
from deeplab_spec.analysis.costs import node_costs, total_cost
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.bench import plan as bench_plan
from deeplab_spec.bench.document import SpeedModel
from deeplab_spec.bench.plan import least_work, minutes, plan
from deeplab_spec.bench.request import WIDE_BATCHES, WIDE_SIZES, WIDE_STRIDES, BenchRequest, Case, cases
from deeplab_spec.errors import MissingExtraError, SpecError
from deeplab_spec.graph.ops import Conv2d
from deeplab_spec.measure import parts
from deeplab_spec.measure.modes import DEFAULTS, GPU_EXAMPLES
from deeplab_spec.spec.api import network

SPEED = SpeedModel(flops_per_second=1e11, bytes_per_second=1e10, spin_seconds=0.0025)
TINY = BenchRequest(overrides=("width=0.125",), cases=(Case(size=(65, 97)),), modes=("eager",))
SIZE = (65, 97)


@pytest.mark.parametrize("variant", ["notebook", "tf-release"])
def test_least_operations_are_the_multiply_adds_of_convolutions_twice(variant: str) -> None:
    """A product and a sum are two operations; operators that only add or compare can be fused away."""
    graph = network(variant)
    least = least_work(graph, shapes(graph, SIZE), 3)

    assert least.flops == 2 * 3 * total_cost(node_costs(graph, shapes(graph, SIZE), MAC)).operations


def test_kernels_are_read_once_for_a_batch_and_images_and_results_for_every_image() -> None:
    """So a batch of two needs less than twice the numbers."""
    graph = network("notebook", num_classes=5)
    one, two = (least_work(graph, shapes(graph, SIZE), images).numbers for images in (1, 2))
    kernels = sum(
        node.op.kernel[0] * node.op.kernel[1] * node.op.channels_in // node.op.groups * node.op.channels_out
        for node in graph
        if isinstance(node.op, Conv2d)
    )

    assert two - one == (3 + 5) * SIZE[0] * SIZE[1]
    assert 2 * one - two == kernels


def test_costs_are_those_of_the_specification_times_the_batch() -> None:
    """Parameters are read once for the batch, values for every image."""
    (one,) = plan(TINY).costs.values()
    (three,) = plan(replace(TINY, cases=(Case(size=(65, 97), batch=3),))).costs.values()
    graph = TINY.subject(TINY.cases[0]).network()
    total = total_cost(node_costs(graph, shapes(graph, (65, 97)), FULL))

    assert (one.flops, one.moved) == (total.flops, total.bytes_read + total.bytes_written)
    assert 2 * one.flops < three.flops <= 3 * one.flops  # a normalisation's vectors are made once
    assert 3 * one.moved - three.moved == 2 * 4 * (total.sizes.parameters + total.sizes.buffers)
    assert one.least.flops < one.flops
    assert 4 * one.least.numbers < one.moved / 4


def test_default_modes_are_those_of_the_device_and_examples_of_a_gpus() -> None:
    """On a CPU some modes of a GPU are listed too, as not run."""
    names = [mode.name for mode in plan(replace(TINY, modes=())).modes]

    assert names == [*DEFAULTS["cpu"], *GPU_EXAMPLES]


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A default engine that is not installed is not run; a requested one is an error that names the extra."""
    find = parts.find_spec
    monkeypatch.setattr(parts, "find_spec", lambda name: None if "onnx" in name else find(name))

    missing = {mode.name: mode.missing("cpu") for mode in plan(replace(TINY, modes=())).modes}
    assert missing["onnxruntime"] == "it needs the extra 'onnx': pip install 'deeplab-spec[onnx]'"
    with pytest.raises(MissingExtraError, match="bench --mode onnxruntime needs the extra 'onnx'"):
        plan(replace(TINY, modes=("onnxruntime",)))

    monkeypatch.setattr(errors, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match="bench needs the extra 'torch'"):
        plan(TINY)


def test_statement_says_what_and_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wide table has every size, batch and output stride."""
    monkeypatch.setattr(bench_plan, "measured_speed", lambda _request: SPEED)
    every = cases(WIDE_SIZES, WIDE_BATCHES, WIDE_STRIDES)
    wide = plan(replace(TINY, cases=every))

    assert len(every) == 12
    assert "12 cases (output stride 8, 1x3x513x513 to output stride 16, 32x3x1024x2048): 1 modes" in wide.statement()
    assert wide.seconds > sum(6 * cost.flops / 1e11 for cost in wide.costs.values())
    assert plan(replace(TINY, cases=every, time_budget=60.0)).seconds == 60
    assert minutes(3 * 3600) == "3.0 hours"


def test_modes_that_are_prepared_side_by_side_take_less_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """But at least as long as the slowest of them."""
    monkeypatch.setattr(bench_plan, "measured_speed", lambda _request: SPEED)
    one, two = (plan(replace(TINY, modes=("folded", "compiled"), jobs=jobs)) for jobs in (1, 2))
    (case,) = TINY.cases

    assert two.case_seconds(case) < one.case_seconds(case)
    assert two.case_seconds(case) > 60


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "tpu"}, "--device: must be one of cpu, cuda, but got 'tpu'"),
        ({"runs": 0}, "--runs: must be 1 or more"),
        ({"jobs": -1}, "--jobs: must be 1 or more"),
        ({"time_budget": 0.0}, "--time-budget: must be a positive number of seconds"),
        ({"deadline": float("nan")}, "--deadline: must be a positive number of seconds"),
        ({"cases": (Case(batch=0),)}, "--batch: must be 1 or more"),
        ({"cases": (Case(size=(0, 5)),)}, "height and width must be 1 or more"),
        ({"variant": "deeplab"}, "variant"),
        ({"target": "a:b", "overrides": ("width=0.5",)}, "--choose: decides choices of a published network"),
    ],
)
def test_impossible_values_are_refused(changes: dict[str, Any], message: str) -> None:
    """Before anything is built."""
    with pytest.raises(SpecError, match=message):
        replace(TINY, **changes)


def test_unknown_mode_is_refused() -> None:
    """As in ``optimize``."""
    with pytest.raises(SpecError, match="mode: must be eager, or some of"):
        plan(replace(TINY, modes=("quick",)))

"""Traces: every moment and every kernel of a step belongs to one row, and the rows add up."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.errors import TargetError
from deeplab_spec.profile.trace import for_tensorboard, parse, read
from deeplab_spec.profile.trace_blocks import UNATTRIBUTED, Call, Step, attribute, plain_name

RANGES = frozenset({"stem", "block1", "block2"})
ORDER = (
    Call(operator="conv2d", block="stem", ranged=True),
    Call(operator="add", block="joint", ranged=False),
    Call(operator="conv2d", block="block1", ranged=True),
    Call(operator="upsample_bilinear2d", block="resize", ranged=False),
)


def event(name: str, start: float, end: float, category: str = "cpu_op", tid: int = 1, **more: Any) -> dict[str, Any]:
    """Return a record of a trace, in microseconds."""
    result = {"ph": "X", "name": name, "cat": category, "ts": start, "dur": end - start}
    return result | {"pid": 1, "tid": tid, "args": more}


def step(start: float, end: float) -> dict[str, Any]:
    """Return the range of a step."""
    return event("ProfilerStep#0", start, end, "user_annotation")


def block(name: str, start: float, end: float) -> dict[str, Any]:
    """Return the range of a block."""
    return event(name, start, end, "user_annotation")


def attributed(*records: dict[str, Any]) -> Step:
    """Attribute a trace with one step."""
    return attribute(parse({"traceEvents": list(records)}), ORDER, RANGES)[0]


def test_a_range_is_its_blocks_with_everything_in_between_and_other_operators_are_found_by_order() -> None:
    """The time between operators of a range belongs to the block; its position identifies a sum between ranges."""
    result = attributed(
        step(0, 100),
        block("stem", 1, 20),
        event("aten::conv2d", 2, 10),
        event("aten::convolution", 3, 9),
        event("aten::add", 25, 30),
        block("block1", 40, 60),
        event("aten::conv2d", 41, 50),
        event("aten::upsample_bilinear2d", 70, 90),
    )

    assert {name: part.host for name, part in result.slices.items()} == {
        "stem": 19_000,
        "joint": 5_000,
        "block1": 20_000,
        "resize": 20_000,
        UNATTRIBUTED: 36_000,
    }
    operators = result.slices["stem"].operators
    assert {name: uses.time for name, uses in operators.items()} == {"aten::conv2d": 2_000, "aten::convolution": 6_000}
    assert result.unmatched == 0


def test_an_operator_that_the_graph_does_not_show_belongs_to_its_range_or_to_no_block() -> None:
    """It does not move other operators to a wrong block."""
    result = attributed(
        step(0, 100),
        block("stem", 1, 20),
        event("aten::mm", 2, 5),
        event("aten::conv2d", 6, 10),
        event("aten::mm", 21, 24),
        event("aten::add", 25, 30),
        block("block1", 40, 60),
        event("aten::conv2d", 41, 50),
        event("aten::upsample_bilinear2d", 70, 90),
    )

    assert result.slices["stem"].operators["aten::mm"].time == 3_000
    assert result.slices[UNATTRIBUTED].operators["aten::mm"].time == 3_000
    assert result.slices["joint"].host == 5_000
    assert result.slices["resize"].host == 20_000


def test_captured_calls_that_the_run_does_not_make_are_counted() -> None:
    """The count shows that a step took another path through the network."""
    assert attributed(step(0, 100), block("stem", 1, 20), event("aten::conv2d", 2, 10)).unmatched == 3


def test_a_backward_function_belongs_to_its_forward_operator_and_a_gradient_to_the_function_before_it() -> None:
    """The two share a sequence number; an accumulation follows its function at once."""
    backward = "autograd::engine::evaluate_function: "
    result = attributed(
        step(0, 100),
        block("stem", 1, 20),
        event("aten::conv2d", 2, 10, **{"Sequence number": 7}),
        event("aten::add", 25, 30, **{"Sequence number": 8}),
        event("aten::mean", 31, 32, **{"Sequence number": 9}),
        event(f"{backward}MeanBackward0", 40, 42, tid=2, **{"Sequence number": 9}),
        event(f"{backward}AddBackward0", 45, 50, tid=2, **{"Sequence number": 8}),
        event(f"{backward}ConvolutionBackward0", 50, 70, tid=2, **{"Sequence number": 7}),
        event(f"{backward}torch::autograd::AccumulateGrad", 71, 73, tid=2),
    )

    assert result.slices["stem"].host == 19_000 + 20_000 + 2_000
    assert result.slices["joint"].host == 5_000 + 5_000
    assert result.slices["stem"].operators["ConvolutionBackward0"].time == 20_000
    assert sum(part.host for part in result.slices.values()) == result.host == 100_000


def test_a_kernel_belongs_to_the_block_that_launched_it() -> None:
    """It runs later, also after the step's end on the host."""
    result = attributed(
        step(0, 100),
        block("stem", 1, 20),
        event("aten::conv2d", 2, 10),
        event("cudaLaunchKernel", 3, 4, "cuda_runtime", correlation=5),
        event("cudaLaunchKernel", 95, 96, "cuda_driver", correlation=6),
        event("gemm", 50, 80, "kernel", tid=7, correlation=5),
        event("copy", 120, 130, "gpu_memcpy", tid=7, correlation=6),
    )

    assert result.slices["stem"].device == 30_000
    assert result.slices["stem"].kernels["gemm"].calls == 1
    assert result.slices[UNATTRIBUTED].device == 10_000
    assert result.device == 40_000


def test_peak_memory_counts_from_the_beginning_of_the_step() -> None:
    """The memory of the weights belongs to no block."""

    def memory(time: float, change: int, total: int) -> dict[str, Any]:
        args = {"Device Type": 0, "Device Id": -1, "Bytes": change, "Total Allocated": total}
        return {"ph": "i", "name": "[memory]", "ts": time, "pid": 1, "tid": 1, "args": args}

    result = attributed(
        step(0, 100),
        block("stem", 1, 20),
        memory(2, 300, 1300),
        memory(3, 200, 1500),
        memory(4, -300, 1200),
        block("block1", 40, 60),
        memory(41, 50, 1250),
    )

    assert result.peak == {"stem": 500, "block1": 250}


@st.composite
def traces(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Return a step with nested events of any length."""
    records = []

    def fill(start: int, end: int, depth: int) -> None:
        at = start
        for _ in range(draw(st.integers(0, 4), label="events")):
            at += draw(st.integers(0, 9), label="gap")
            stop = at + draw(st.integers(1, 40), label="length")
            if stop > end:
                return
            ranged = depth == 0 and draw(st.booleans(), label="range")
            name = draw(st.sampled_from(sorted(RANGES) if ranged else ["aten::conv2d", "aten::add", "aten::mm"]))
            records.append(block(name, at, stop) if ranged else event(name, at, stop))
            fill(at, stop, depth + 1)
            at = stop

    fill(0, 150, 0)
    return [step(0, 150), *records]


@given(traces())
def test_the_rows_of_a_step_always_add_up_to_it(records: list[dict[str, Any]]) -> None:
    """In whole nanoseconds no time is lost to rounding, and none is counted twice."""
    result = attributed(*records)

    assert sum(part.host for part in result.slices.values()) == result.host
    for name, part in result.slices.items():
        assert part.host >= sum(uses.time for uses in part.operators.values()) or name == UNATTRIBUTED
        assert min([part.host, *(uses.time for uses in part.operators.values())]) >= 0


def test_names_of_one_operator_are_unified() -> None:
    """A captured graph and a run may use different names."""
    assert [plain_name(name) for name in ("aten::relu_", "relu", "aten::convolution", "concat")] == [
        "relu",
        "relu",
        "conv2d",
        "cat",
    ]


def test_the_copy_for_tensorboard_has_the_categories_of_its_plugin(tmp_path: Path) -> None:
    """The original keeps its categories."""
    source, copy = tmp_path / "trace.json", tmp_path / "copy.json"
    records = [event("cudaLaunchKernel", 1, 2, "cuda_runtime"), event("cuLaunch", 1, 2, "cuda_driver"), step(0, 3)]
    source.write_text(json.dumps({"traceEvents": records, "schemaVersion": 1}))

    for_tensorboard(source, copy)

    assert [record["cat"] for record in json.loads(copy.read_text())["traceEvents"]] == [
        "runtime",
        "runtime",
        "user_annotation",
    ]
    assert json.loads(source.read_text())["traceEvents"] == records
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.json", "trace.json"]


@pytest.mark.parametrize("text", ["", "[]", '{"events": []}', '{"traceEvents": [{"ph": "X", "cat": "kernel"}]}'])
def test_a_file_that_is_not_a_trace_is_refused(tmp_path: Path, text: str) -> None:
    """The message names the file."""
    file = tmp_path / "trace.json"
    file.write_text(text)

    with pytest.raises(TargetError, match=r"trace\.json: cannot be read as a trace"):
        read(file)


def test_a_trace_without_a_step_is_refused() -> None:
    """It has no time."""
    with pytest.raises(TargetError, match="has no step"):
        attributed(event("aten::conv2d", 2, 10))

"""Evidence made by hand: of a candidate without faults, and with one."""

from dataclasses import replace
from typing import Any

from deeplab_spec.align.counts import BlockCounts, Count
from deeplab_spec.align.differences import Aspect, compare
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Activation, Conv2d
from deeplab_spec.judge.deviation import Deviation
from deeplab_spec.judge.evidence import Call, Comparison, Evidence, Tensor, UnmatchedParameter

SHAPE = (1, 21, 64, 96)
NOTHING = Evidence(output_stride=16, part=None)


def call(purpose: str = "size", **fields: Any) -> Call:
    """Return a legal call that was answered as it must be."""
    answered = Call(
        purpose=purpose,
        legal=True,
        inputs=((1, 3, 64, 96),),
        dtype="float32",
        expected=(("logits", SHAPE),),
        results=(("logits", Tensor(shape=SHAPE, dtype="float32", finite=True)),),
        returned="Tensor",
    )
    return replace(answered, **fields)


def result(**fields: Any) -> tuple[tuple[str, Tensor], ...]:
    """Return one result with something else about it."""
    return (("logits", replace(Tensor(shape=SHAPE, dtype="float32", finite=True), **fields)),)


def refused(purpose: str = "size") -> Call:
    """Return a legal call that ended in an error."""
    return call(purpose, results=(), returned="", error="RuntimeError: sizes must be multiples of 16")


def comparison(purpose: str, difference: float | None = 0.0, reason: str = "") -> Comparison:
    """Return a comparison that allows a millionth."""
    return Comparison(purpose=purpose, subject="logits", difference=difference, allowed=1e-6, reason=reason)


def deviation(path: str, error: float | None = 0.0, **fields: Any) -> Deviation:
    """Return a step that allows a billionth."""
    made = Deviation(path=path, candidate_path=f"m.{path}", origin=path, error=error, allowed=1e-9)
    return replace(made, **fields)


def in_lower(clause: str, *ratios: float | None, reason: str = "") -> Evidence:
    """Return evidence of comparisons in bfloat16 that allow three times the specification's error."""
    made = tuple(
        Deviation(path="output", candidate_path="m", dtype="bfloat16", error=ratio, allowed=3.0, reason=reason)
        for ratio in ratios
    )
    return replace(NOTHING, lower={clause: made})


def aspect(*, equal: bool) -> Aspect:
    """Return a fact."""
    return Aspect(
        path="aspp.pool.activation",
        candidate_path="m.relu",
        op=Activation(),
        attribute="kind",
        expected="relu",
        actual="relu" if equal else "relu6",
        equal=equal,
    )


def block(*, actual: int = 7, comparable: bool = True) -> BlockCounts:
    """Return a block with one node that stores seven parameters, or another number."""
    node = Node(path="aspp.pool.conv", op=Conv2d(channels_in=7, channels_out=1))
    aspect = compare(node, "m.conv", "parameters", (7, actual))
    total = Count(attribute="parameters", expected=7, actual=actual)
    operations = Count(attribute="multiply-adds", expected=9, actual=9)
    return BlockCounts(
        path="aspp.pool", parameters=total, multiply_adds=operations, nodes=(aspect,), comparable=comparable
    )


MISFIT = UnmatchedParameter(path="aspp.pool.conv", candidate_path="m.conv", role="bias", expected=(21,), actual=None)


def with_calls(*calls: Call) -> Evidence:
    """Return evidence of calls."""
    return replace(NOTHING, calls=calls)


def with_comparisons(*comparisons: Comparison) -> Evidence:
    """Return evidence of comparisons."""
    return replace(NOTHING, comparisons=comparisons)


def with_steps(*steps: Deviation) -> Evidence:
    """Return evidence of steps."""
    return replace(NOTHING, steps=steps)

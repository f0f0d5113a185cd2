"""Evidence made by hand: of a candidate without faults, and with one."""

from dataclasses import replace
from typing import Any

from deeplab_spec.align.counts import BlockCounts, Count
from deeplab_spec.align.differences import Aspect, compare
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Activation, Conv2d
from deeplab_spec.judge.evidence import Call, Comparison, Evidence, Tensor, UnmatchedParameter
from deeplab_spec.judge.finding import Deviation
from deeplab_spec.judge.training.check_random import SPECIFIED
from deeplab_spec.judge.training.evidence import (
    BatchOfOne,
    DropoutEffect,
    Gradient,
    Initial,
    Movement,
    Sample,
    Site,
    Trained,
)
from deeplab_spec.spec.distributions import Distribution, Shape

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


UNMATCHED = UnmatchedParameter(path="aspp.pool.conv", candidate_path="m.conv", role="bias", expected=(21,), actual=None)


def with_calls(*calls: Call) -> Evidence:
    """Return evidence of calls."""
    return replace(NOTHING, calls=calls)


def with_comparisons(*comparisons: Comparison) -> Evidence:
    """Return evidence of comparisons."""
    return replace(NOTHING, comparisons=comparisons)


def with_steps(*steps: Deviation) -> Evidence:
    """Return evidence of steps."""
    return replace(NOTHING, steps=steps)


NORM = "aspp.projection.norm"
CONV = "aspp.projection.conv"
MOVEMENT = Movement(path=NORM, candidate_path="m.bn", expected=3e-4, mean=3e-4, variance=3e-4)
STATISTIC = Deviation(
    path=NORM, role="running_var", candidate_path="m.bn.running_var", origin=NORM, error=1e-12, allowed=1e-7
)
GRADIENT = Gradient(path=CONV, role="weight", candidate_path="m.weight", origin=CONV, expected=0.5, actual=0.5)
STEP = Deviation(path=CONV, role="weight", candidate_path="m.weight", origin=CONV, error=1e-12, allowed=1e-7)
SITE = Site(path="aspp.dropout", kind="dropout", probability=0.1, follows=NORM, reads=NORM)
CALL = replace(SITE, path="m.dropout")


def spread(level: float, count: int) -> dict[str, tuple[float, ...]]:
    """Return statistics of results that vary about a level, by a tenth."""
    values = tuple(level * (1 + 0.1 * (-1) ** number) for number in range(count))
    return {"spread": values, "coherence": values, "level": values}


DROPOUT_EFFECT = DropoutEffect(expected=(SITE,), actual=(CALL,), oracle=spread(0.05, 40), candidate=spread(0.05, 10))
NORMAL = Distribution(shape=Shape.NORMAL, scale=0.1)
UNIFORM = Distribution(shape=Shape.UNIFORM, scale=0.1)
WEIGHTS = Sample(
    path=CONV,
    role="weight",
    candidate_path="m.weight",
    count=10_000,
    mean=0.0005,
    square=0.0101,
    greatest=0.4,
    tested=4096,
    fits={SPECIFIED: (NORMAL, 0.01), "kaiming_fan_in": (NORMAL, 0.01), "framework_default": (UNIFORM, 0.1)},
)
"""Values that can be drawn from a normal distribution of deviation 0.1."""

ZEROS = Sample(
    path=CONV,
    role="bias",
    candidate_path="m.bias",
    count=21,
    mean=0.0,
    square=0.0,
    greatest=0.0,
    tested=21,
    fits={SPECIFIED: (Distribution(shape=Shape.CONSTANT, scale=0.0), 0.0)},
)

RIGHT = Trained(
    movements=(MOVEMENT,),
    statistics=(STATISTIC,),
    gradients=(GRADIENT,),
    step=(STEP,),
    dropout_effect=DROPOUT_EFFECT,
    initial=Initial(samples=(WEIGHTS, ZEROS)),
    batch_of_one=BatchOfOne(),
)


def trained(**fields: Any) -> Evidence:
    """Return evidence of a right training with something else about it."""
    return replace(NOTHING, trained=replace(RIGHT, **fields))


def weights(**fields: Any) -> Evidence:
    """Return evidence of weights with something else about them."""
    return trained(initial=Initial(samples=(replace(WEIGHTS, **fields),)))


def dropout_effect(**fields: Any) -> Evidence:
    """Return evidence of dropout with something else about it."""
    return trained(dropout_effect=replace(DROPOUT_EFFECT, **fields))

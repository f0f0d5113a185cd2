"""Evidence of training made by hand: of a candidate without faults, to be given one."""

from dataclasses import replace
from typing import Any

from deeplab_spec.judge.deviation import Deviation
from deeplab_spec.judge.evidence import Evidence
from deeplab_spec.judge.training.check_initial import SPECIFIED
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
from tests.support.observed import NOTHING

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
    fits=((SPECIFIED, NORMAL, 0.01), ("kaiming_fan_in", NORMAL, 0.01), ("framework_default", UNIFORM, 0.1)),
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
    fits=((SPECIFIED, Distribution(shape=Shape.CONSTANT, scale=0.0), 0.0),),
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

"""The distributions of initial weights, compared with sums over their densities."""

import math

import pytest

from deeplab_spec.graph.ops import BatchNorm, Conv2d
from deeplab_spec.spec.distributions import Distribution, Shape, distribution, initials
from deeplab_spec.spec.network import network, rows
from deeplab_spec.spec.rows import Init, InitKind
from tests.support.members import XCEPTIONS

CONV = Conv2d(channels_in=64, channels_out=256, kernel=(3, 3), groups=2, bias=True)
FAN_IN, FAN_OUT = 32 * 9, 256 * 9


def density(shape: Shape, x: float) -> float:
    """Return an unnormalised density at scale 1."""
    if shape is Shape.UNIFORM:
        return float(abs(x) <= 1)
    inside = shape is Shape.NORMAL or abs(x) <= 2
    return math.exp(-x * x / 2) if inside else 0.0


@pytest.mark.parametrize("shape", [Shape.NORMAL, Shape.TRUNCATED, Shape.UNIFORM])
def test_moments_and_exceedance_are_those_of_the_density(shape: Shape) -> None:
    """The sums are over 200,000 points."""
    points = [-10 + (number + 0.5) * 1e-4 for number in range(200_000)]
    weights = [density(shape, x) for x in points]
    total = sum(weights)
    scaled = Distribution(shape=shape, scale=0.5)

    for power, moment in ((2, scaled.variance), (4, scaled.fourth_moment)):
        assert moment == pytest.approx(
            sum(weight * (x / 2) ** power for x, weight in zip(points, weights, strict=True)) / total, rel=1e-5
        )
    for magnitude in (0.2, 0.4, 0.7):
        beyond = sum(weight for x, weight in zip(points, weights, strict=True) if abs(x) > 2 * magnitude) / total
        assert scaled.beyond(magnitude) == pytest.approx(beyond, abs=1e-4)


def test_nothing_lies_beyond_the_bound() -> None:
    """A normal distribution has no bound."""
    assert Distribution(shape=Shape.TRUNCATED, scale=0.1).bound == 0.2
    assert Distribution(shape=Shape.TRUNCATED, scale=0.1).beyond(0.2) == 0
    assert Distribution(shape=Shape.UNIFORM, scale=0.1).beyond(0.2) == 0
    assert Distribution(shape=Shape.NORMAL, scale=0.1).bound == math.inf


@pytest.mark.parametrize(
    ("init", "shape", "deviation"),
    [
        (Init(kind=InitKind.KAIMING_FAN_IN), Shape.NORMAL, math.sqrt(2 / FAN_IN)),
        (Init(kind=InitKind.KAIMING_FAN_OUT), Shape.NORMAL, math.sqrt(2 / FAN_OUT)),
        (Init(kind=InitKind.TRUNCATED_NORMAL, std=0.09), Shape.TRUNCATED, 0.0791663),
        (Init(kind=InitKind.XAVIER_UNIFORM), Shape.UNIFORM, math.sqrt(2 / (FAN_IN + FAN_OUT))),
        (Init(), Shape.UNIFORM, math.sqrt(1 / (3 * FAN_IN))),
    ],
)
def test_a_weight_has_the_distribution_of_its_row(init: Init, shape: Shape, deviation: float) -> None:
    """Fans are counted as PyTorch counts them: a group has its own inputs, the outputs are all."""
    found = distribution(CONV, "weight", init)

    assert found is not None
    assert found.shape is shape
    assert math.sqrt(found.variance) == pytest.approx(deviation, rel=1e-6)


def test_biases_and_normalisations_start_as_specified() -> None:
    """At zero in the release, otherwise at the framework's default."""
    zero, drawn = (distribution(CONV, "bias", Init(zero_bias=zero)) for zero in (True, False))

    assert zero == Distribution(shape=Shape.CONSTANT, scale=0.0)
    assert drawn == Distribution(shape=Shape.UNIFORM, scale=1 / math.sqrt(FAN_IN))
    norm = BatchNorm(channels=1, eps=1e-3, momentum=0.1)
    values = {role: distribution(norm, role, None) for role in ("weight", "bias", "running_mean", "running_var")}
    assert {role: value.scale for role, value in values.items() if value} == {
        "weight": 1,
        "bias": 0,
        "running_mean": 0,
        "running_var": 1,
    }
    assert distribution(CONV, "weight", None) is None


@pytest.mark.parametrize("variant", XCEPTIONS, ids=lambda variant: variant.name)
def test_every_convolution_of_a_variant_is_drawn_somehow(variant: object) -> None:
    """Other tensors have no distribution."""
    choices = variant.choices  # type: ignore[attr-defined]  # a variant
    convs = {node.path for node in network(choices, 16, 21) if isinstance(node.op, Conv2d)}

    assert initials(rows(choices, 16, 21)).keys() == convs

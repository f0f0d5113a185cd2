"""Initial weights have the distribution of their row."""

import math

import pytest
import torch
from torch import nn

from deeplab_spec.reference.conv import draw
from deeplab_spec.reference.network import build
from deeplab_spec.spec.rows import Init, InitKind

TRUNCATION = 0.8796256610342398
"""Deviation of a unit normal distribution that is cut at two deviations."""


def conv() -> nn.Conv2d:
    """Return a convolution with 147,456 weights: a deviation is then known to 0.2 percent."""
    return nn.Conv2d(64, 256, 3)


EXPECTED = {
    InitKind.KAIMING_FAN_IN: (Init(kind=InitKind.KAIMING_FAN_IN), math.sqrt(2 / (64 * 9))),
    InitKind.KAIMING_FAN_OUT: (Init(kind=InitKind.KAIMING_FAN_OUT), math.sqrt(2 / (256 * 9))),
    InitKind.TRUNCATED_NORMAL: (Init(kind=InitKind.TRUNCATED_NORMAL, std=0.09), 0.09 * TRUNCATION),
    InitKind.XAVIER_UNIFORM: (Init(kind=InitKind.XAVIER_UNIFORM), math.sqrt(2 / ((64 + 256) * 9))),
    InitKind.FRAMEWORK: (Init(), math.sqrt(1 / (3 * 64 * 9))),
}


@pytest.mark.parametrize("kind", InitKind)
def test_a_weight_has_the_mean_and_deviation_of_its_distribution(kind: InitKind) -> None:
    """Over so many weights, five standard errors separate every kind from every other."""
    torch.manual_seed(0)
    layer = conv()
    init, deviation = EXPECTED[kind]
    draw(layer, init)
    count = layer.weight.numel()
    assert abs(layer.weight.mean().item()) < 5 * deviation / math.sqrt(count)
    assert layer.weight.std().item() == pytest.approx(deviation, rel=5 / math.sqrt(2 * count))


def test_a_truncated_weight_stays_within_two_deviations() -> None:
    """The release draws again what lies outside."""
    torch.manual_seed(0)
    layer = conv()
    draw(layer, Init(kind=InitKind.TRUNCATED_NORMAL, std=0.09))
    assert 0.17 < layer.weight.abs().max().item() <= 0.18 * (1 + 1e-6)


@pytest.mark.parametrize("zero_bias", [True, False])
def test_a_bias_is_zero_just_where_the_row_says_so(zero_bias: bool) -> None:  # noqa: FBT001 - a parameter
    """The document leaves biases to the framework, the release zeroes them."""
    layer = conv()
    draw(layer, Init(kind=InitKind.KAIMING_FAN_IN, zero_bias=zero_bias))
    assert layer.bias is not None
    assert bool((layer.bias == 0).all()) is zero_bias


def test_the_release_draws_backbone_head_and_logits_apart() -> None:
    """Truncated normal with three published deviations."""
    torch.manual_seed(0)
    network = build("tf-release", choices={"width": 0.25})
    for path, deviation in (
        ("backbone.middle_flow.block7.sepconv2.pointwise.conv", 0.09),
        ("aspp.atrous2.depthwise.conv", 0.33),
        ("aspp.atrous2.pointwise.conv", 0.06),
        ("decoder.logits.conv", 0.01),
    ):
        weight = network.get_submodule(path).weight
        assert isinstance(weight, torch.Tensor)
        assert weight.std().item() == pytest.approx(deviation * TRUNCATION, rel=0.06), path
        assert weight.abs().max().item() <= 2 * deviation * (1 + 1e-6), path


def test_a_new_normalisation_is_the_identity() -> None:
    """Scale 1, offset 0, mean 0, variance 1."""
    norms = [
        layer for layer in build("notebook", choices={"width": 0.05}).modules() if isinstance(layer, nn.BatchNorm2d)
    ]
    assert len(norms) == 138
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert (norm.weight == 1).all()
        assert (norm.bias == 0).all()
        assert (norm.running_mean == 0).all()
        assert (norm.running_var == 1).all()

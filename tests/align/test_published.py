"""A different architecture is named in one sentence; a deviating network is of the same family."""

from dataclasses import replace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from deeplab_spec.align.match import align
from deeplab_spec.align.network_at_size import Shaped, shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.align.published import different_architecture, nearest_head
from deeplab_spec.capture.fx.module import capture
from deeplab_spec.errors import GraphError
from deeplab_spec.graph.ops import Activation, Conv2d
from deeplab_spec.spec.choices import ChoiceValue, choose, names, seen_values
from deeplab_spec.spec.network import part, rows
from deeplab_spec.spec.variants import TF_RELEASE, TORCHVISION_RESNET50, Variant
from tests.support.graphs import chain, narrow_normal, normal, normal_capture
from tests.support.members import XCEPTIONS
from tests.support.strategies import cases


def conv(channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a normalised convolution."""
    layer = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out))


class Bottleneck(nn.Module):
    """A block of a ResNet."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(channels, channels // 2, 1),
            nn.ReLU(),
            conv(channels // 2, channels // 2),
            nn.ReLU(),
            conv(channels // 2, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the block to its input."""
        return torch.relu(self.body(x) + x)


class Inverted(nn.Module):
    """A block of a MobileNet."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.body = nn.Sequential(
            conv(channels, wide, 1), nn.ReLU6(), conv(wide, wide, groups=wide), nn.ReLU6(), conv(wide, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the block to its input."""
        return x + self.body(x)


class Segmenter(nn.Module):
    """A backbone and a classifier, resized to the image."""

    def __init__(self, *layers: nn.Module, channels: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(*layers)
        self.classifier = nn.Conv2d(channels, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return nn.functional.interpolate(self.classifier(self.backbone(x)), size=x.shape[2:], mode="bilinear")


def resnet() -> nn.Module:
    """Return a network like a ResNet."""
    blocks = [Bottleneck(8) for _ in range(16)]
    return Segmenter(conv(3, 8, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), *blocks, channels=8)


def mobilenet() -> nn.Module:
    """Return a network like a MobileNet."""
    return Segmenter(conv(3, 8, 3, 2), nn.ReLU6(), *(Inverted(8) for _ in range(16)), channels=8)


def plain() -> nn.Module:
    """Return a network without anything special."""
    return Segmenter(*(conv(3 if number == 0 else 8, 8) for number in range(10)), channels=8)


@pytest.mark.parametrize(
    ("module", "evidence"),
    [
        (resnet, "its backbone is a ResNet (7x7 stem, max pooling, no depthwise convolution, usual activation relu)"),
        (mobilenet, "its backbone is a MobileNetV2 (3x3 stem, 16 depthwise convolutions, usual activation relu6)"),
        (plain, "its backbone is of no known family (3x3 stem, no depthwise convolution)"),
    ],
    ids=["resnet", "mobilenet", "plain"],
)
def test_a_different_architecture_is_named_with_the_evidence(module: type[nn.Module], evidence: str) -> None:
    """Against every variant."""
    candidate: Shaped = normal_capture(capture(module(), [torch.zeros(1, 3, 65, 66)]))
    for variant in XCEPTIONS:
        text = different_architecture(align(narrow_normal(variant.choices, 16, (65, 66)), candidate))
        assert text is not None
        assert text.startswith("this is another network: it has no decoder (nothing joins maps of two resolutions); ")
        assert evidence in text
        assert "specified convolutions have a counterpart among its" in text


def test_a_network_without_convolutions_is_another() -> None:
    """Nothing can have a counterpart."""
    expected = narrow_normal(TF_RELEASE.choices, 16)
    text = different_architecture(align(expected, normal(chain(Activation(), channels=3))))

    assert text is not None
    assert "no convolution" in text


OVERRIDES = [
    (name, value)
    for name in names(TF_RELEASE.family)
    if name != "width"
    for value in seen_values(name, TF_RELEASE.family)
]


@given(case=cases(), override=st.sampled_from(OVERRIDES))
@example(case=(TF_RELEASE, 16), override=("middle_blocks", 8))
def test_a_deviating_network_is_of_the_same_family(
    case: tuple[Variant, int], override: tuple[str, ChoiceValue]
) -> None:
    """Even if one choice changes many nodes: half as many blocks, no decoder, a bias everywhere."""
    variant, output_stride = case
    try:
        candidate = narrow_normal(choose(variant.choices, dict([override])), output_stride)
    except GraphError:
        return  # maps of two sizes would be added: no network is like this
    assert different_architecture(align(narrow_normal(variant.choices, output_stride), candidate)) is None


@pytest.mark.deep
@pytest.mark.parametrize("variant", XCEPTIONS, ids=lambda variant: variant.name)
@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_single_decision_does_not_make_another_network(variant: Variant, output_stride: int) -> None:
    """Every known value of every choice."""
    expected = narrow_normal(variant.choices, output_stride)
    for override in OVERRIDES:
        try:
            candidate = narrow_normal(choose(variant.choices, dict([override])), output_stride)
        except GraphError:
            continue
        assert different_architecture(align(expected, candidate)) is None, override


def test_every_variant_is_of_the_family_of_every_other() -> None:
    """The notebook compared with the release deviates, but is of the same family."""
    for one in XCEPTIONS:
        for other in XCEPTIONS:
            assert (
                different_architecture(align(narrow_normal(one.choices, 16), narrow_normal(other.choices, 16))) is None
            )


def test_the_same_family_needs_half_of_the_convolutions() -> None:
    """Counted on the side that has more."""
    layers = [Conv2d(channels_in=4, channels_out=4, kernel=(3, 3), padding=(1, 1, 1, 1))] * 8
    other = [Conv2d(channels_in=4, channels_out=4, kernel=(5, 5), padding=(2, 2, 2, 2))] * 5
    expected = normal(chain(*layers), (9, 9))

    assert different_architecture(align(expected, normal(chain(*layers[:4]), (9, 9)))) is None
    assert different_architecture(align(expected, normal(chain(*layers[:3]), (9, 9)))) is not None
    assert different_architecture(align(expected, normal(chain(*layers[:3], *other), (9, 9)))) is not None


def test_a_head_without_a_decoder_is_found_among_heads_with_one() -> None:
    """Those read a second value, which it does not have."""
    choices = replace(TORCHVISION_RESNET50.choices, width=0.125)
    head = part(rows(choices, 16, 21), "head")
    form = normal_form(shaped(head, {node.path: (9, 10) for node in head.inputs}))

    identity = nearest_head([form], [16], 21)

    assert identity is not None
    assert (identity.start, identity.distance) == ("torchvision-resnet50", 0)


class UNet(nn.Module):
    """A network that joins maps of two resolutions, and has no pyramid."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = conv(3, 64, 7, 2), nn.Sequential(nn.MaxPool2d(3, 2, 1), Bottleneck(64), conv(64, 64))
        self.up, self.logits = conv(128, 64), nn.Conv2d(64, 21, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits at half the size of the image."""
        skip = self.stem(image).relu()
        deep = nn.functional.interpolate(self.down(skip), size=skip.shape[2:])
        logits: Tensor = self.logits(self.up(torch.cat([deep, skip], 1)).relu())
        return logits


def test_a_network_without_a_pyramid_says_so() -> None:
    """Whatever its backbone is."""
    candidate = normal_capture(capture(UNet().eval(), [torch.zeros(1, 3, 65, 66)]))
    alignment = align(narrow_normal(TORCHVISION_RESNET50.choices, 16, (65, 66)), candidate)

    assert "it has no pyramid" in (different_architecture(alignment) or "")

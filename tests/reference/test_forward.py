"""Every layer rejects an input that is not a batch of its maps, with its path and the reason."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from deeplab_spec.errors import ShapeError
from deeplab_spec.reference.document import (
    Conv2dLayer,
    DeepLab,
    SeparableConv2d,
    SeparableConv2dLayer,
    Xception,
)
from deeplab_spec.reference.network import build
from tests.support.strategies import NARROW

pytestmark = pytest.mark.usefixtures("without_shape_checks")

LAYERS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "Conv2dLayer": (lambda: Conv2dLayer(2, 3, 1), 2),
    "SeparableConv2d": (lambda: SeparableConv2d(2, 3, 1), 2),
    "SeparableConv2dLayer": (lambda: SeparableConv2dLayer(2, 3, 1), 2),
    "EntryFlowBlock": (lambda: Xception.EntryFlowBlock(2, 3), 2),
    "MiddleFlowBlock": (lambda: Xception.MiddleFlowBlock(2, 2), 2),
    "ExitFlowBlock": (lambda: Xception.ExitFlowBlock(2, 3), 2),
    "aspp": (lambda: DeepLab.ASPP(2), 2),
    "backbone": (lambda: build("tf-release", choices={"width": NARROW}).backbone, 3),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("wrong", ["rank 3", "rank 5", "channels", "no images", "no rows", "no columns"])
def test_a_layer_rejects_other_inputs(layer: str, wrong: str) -> None:
    """The error names the called layer, the rule, and the actual shape."""
    make, channels = LAYERS[layer]
    shapes = {
        "rank 3": (channels, 5, 5),
        "rank 5": (1, channels, 5, 5, 1),
        "channels": (1, channels + 1, 5, 5),
        "no images": (0, channels, 5, 5),
        "no rows": (1, channels, 0, 5),
        "no columns": (1, channels, 5, 0),
    }
    with pytest.raises(ShapeError) as caught:
        make().eval()(torch.zeros(shapes[wrong]))
    assert caught.value.layer == layer
    assert caught.value.expected == ("n", channels, "h", "w")
    assert caught.value.actual == shapes[wrong]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_accepts_the_smallest_map(layer: str) -> None:
    """One pixel is a legal image in evaluation, and every value is finite."""
    make, channels = LAYERS[layer]
    result = make().eval()(torch.ones(1, channels, 1, 1))
    outputs: tuple[Tensor, ...] = result if isinstance(result, tuple) else (result,)
    assert all(output.shape[2:] == (1, 1) and output.isfinite().all() for output in outputs)


def test_a_kernel_that_does_not_fit_is_refused_with_the_size_it_needs() -> None:
    """Without padding, three taps at rate 2 reach over five pixels."""
    message = (
        r"Conv2dLayer: input must have shape \(n, 2, h of at least 5, w of at least 5\) with no empty side, "
        r"but has \(1, 2, 4, 9\)"
    )
    with pytest.raises(ShapeError, match=message):
        Conv2dLayer(2, 3, 3, dilation=2)(torch.zeros(1, 2, 4, 9))


@pytest.mark.parametrize(
    ("low_level", "expected"),
    [
        (None, ("n", 5, "h", "w")),
        (torch.zeros(1, 6, 4, 4), ("n", 5, "h", "w")),
        (torch.zeros(2, 5, 4, 4), (1, 5, "h", "w")),
    ],
)
def test_the_decoder_refuses_low_level_features_that_do_not_fit(
    low_level: Tensor | None, expected: tuple[str | int, ...]
) -> None:
    """They must exist, and have the channels of the row and the pyramid's batch size."""
    with pytest.raises(ShapeError) as caught:
        DeepLab.Decoder(5, 3).eval()(torch.zeros(1, 256, 2, 2), low_level)
    assert caught.value.layer == "decoder.low_level"
    assert caught.value.expected == expected


def test_a_network_for_multiples_refuses_other_sizes() -> None:
    """The choice ``sizes_accepted`` is a rule about the image, so the network decides it."""
    choices = {"width": NARROW, "sizes_accepted": "multiples_of_output_stride"}
    network = build("tf-release", 8, choices=choices).eval()
    assert network(torch.zeros(1, 3, 24, 40)).shape == (1, 21, 24, 40)
    message = r"network: input must have shape \(n, 3, h a multiple of 8, w a multiple of 8\)"
    with pytest.raises(ShapeError, match=message):
        network(torch.zeros(1, 3, 24, 41))


def test_the_rank_is_checked_before_the_multiple() -> None:
    """A tensor without a width has no multiple; the rank comes first."""
    choices = {"width": NARROW, "sizes_accepted": "multiples_of_output_stride"}
    with pytest.raises(ShapeError) as caught:
        build("tf-release", 8, choices=choices)(torch.zeros(3, 24))
    assert caught.value.expected == ("n", 3, "h", "w")

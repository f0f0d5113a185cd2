"""The document's names: constructors, attributes and what they refuse."""

import inspect

import pytest
import torch
from torch import Tensor, nn

from deeplab_spec.errors import BackboneError, SpecError
from deeplab_spec.reference.document import (
    BackboneModule,
    Conv2dLayer,
    DeepLab,
    SeparableConv2d,
    SeparableConv2dLayer,
    SkipBlock,
    Xception,
)

_NORM = "batchnorm_opts={'eps': 0.001, 'momentum': 0.0003}"

# fmt: off
SIGNATURES = [
    (SeparableConv2d, "in_channels out_channels kernel_size stride=1 padding=0 dilation=1 bias=True"),
    (SeparableConv2dLayer, "in_channels out_channels kernel_size stride=1 padding=0 dilation=1 bias=True"),
    (Conv2dLayer, f"in_channels out_channels kernel_size groups=1 stride=1 padding=0 dilation=1 bias=True {_NORM}"),
    (SkipBlock, "main_path skip_path=Identity() aggregator=cat"),
    (Xception, "output_stride=16"),
    (Xception.EntryFlowBlock, "in_channels out_channels dilation=1 atrous=False"),
    (Xception.MiddleFlowBlock, "in_channels=728 out_channels=728 dilation=1"),
    (Xception.ExitFlowBlock, "in_channels=728 out_channels=1024 dilation=1 atrous=False"),
    (DeepLab, "backbone num_classes"),
    (DeepLab.ASPP, "in_channels output_stride=16"),
    (DeepLab.Decoder, "low_in_channels num_classes"),
    (BackboneModule, "output_stride out_channels low_out_channels"),
]
# fmt: on


def written(parameter: inspect.Parameter) -> str:
    """Return a parameter as the table above writes it."""
    default = parameter.default
    if default is inspect.Parameter.empty:
        return parameter.name
    if hasattr(default, "items"):
        default = dict(default)
    return f"{parameter.name}={getattr(default, '__name__', repr(default))}"


@pytest.mark.parametrize(("cls", "signature"), SIGNATURES)
def test_a_constructor_has_the_documents_signature(cls: type, signature: str) -> None:
    """The names, order and defaults of every public argument."""
    parameters = list(inspect.signature(cls).parameters.values())
    assert " ".join(map(written, parameters)) == signature


@pytest.mark.parametrize("make", [Xception, lambda stride: DeepLab.ASPP(8, stride)])
@pytest.mark.parametrize("output_stride", [4, 32, 0])
def test_another_output_stride_is_a_value_error_that_names_the_allowed_ones(make: type, output_stride: int) -> None:
    """The document supports two."""
    with pytest.raises(ValueError, match="output strides 8, 16, but got"):
        make(output_stride)


@pytest.mark.usefixtures("without_shape_checks")
def test_another_backbone_is_a_runtime_error_that_names_its_type() -> None:
    """The head needs to be told channels and output stride."""
    with pytest.raises(RuntimeError, match="must be a BackboneModule, but is a Linear") as caught:
        DeepLab(nn.Linear(1, 1), 21)  # type: ignore[arg-type]  # wrong on purpose
    assert isinstance(caught.value, BackboneError)


@pytest.mark.parametrize("classes", [0, -1])
def test_a_network_without_classes_is_refused(classes: int) -> None:
    """There must be something to tell apart."""
    with pytest.raises(SpecError, match="num_classes: must be 1 or more"):
        DeepLab.Decoder(128, classes)


class Shrink(BackboneModule):
    """A foreign backbone: the average of squares of eight pixels, and of four."""

    def __init__(self) -> None:
        super().__init__(output_stride=8, out_channels=3, low_out_channels=3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return both averages."""
        pool = nn.functional.avg_pool2d
        return pool(x, 8), pool(x, 4)


def test_any_backbone_module_carries_the_head_and_tells_it_its_output_stride() -> None:
    """A backbone that reports 8 gets the doubled rates that the document's own never asks for."""
    network = DeepLab(Shrink(), 5).eval()
    assert network(torch.rand(2, 3, 32, 40)).shape == (2, 5, 32, 40)
    assert network.get_submodule("aspp.atrous1.conv").dilation == (12, 12)


def test_only_the_whole_network_draws_kaiming_weights() -> None:
    """Alone, a layer is drawn as the framework draws it: a third of the deviation's square is fan-in."""
    torch.manual_seed(0)
    alone = DeepLab.ASPP(256).conv1x1.conv.weight
    assembled = DeepLab(Shrink(), 5).get_submodule("aspp.projection.conv").weight
    assert isinstance(assembled, Tensor)
    assert alone.std().item() == pytest.approx((1 / (3 * 256)) ** 0.5, rel=0.02)
    assert assembled.std().item() == pytest.approx((2 / 1280) ** 0.5, rel=0.02)


def test_a_flag_against_bias_reaches_the_depthwise_half_only() -> None:
    """Verbatim from the document."""
    for cls in (SeparableConv2d, SeparableConv2dLayer):
        layer = cls(2, 3, 3, bias=False)
        assert layer.depthwise.conv.bias is None
        assert layer.pointwise.conv.bias is not None


def test_normalisation_options_reach_the_normalisation() -> None:
    """By default the document's; otherwise the caller's."""
    assert (Conv2dLayer(1, 1, 1).norm.eps, Conv2dLayer(1, 1, 1).norm.momentum) == (1e-3, 3e-4)
    other = Conv2dLayer(1, 1, 1, batchnorm_opts={"eps": 0.5, "momentum": 0.25}).norm
    assert (other.eps, other.momentum) == (0.5, 0.25)

"""The assembled networks have the published numbers of parameters, at full width."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from deeplab_spec.errors import SpecError
from deeplab_spec.reference.conv import draw
from deeplab_spec.reference.document import DeepLab, Xception
from deeplab_spec.reference.network import build
from deeplab_spec.spec.rows import Init, InitKind
from tests.support.members import VARIANT_NAMES
from tests.support.strategies import NARROW

# fmt: off
PUBLISHED = [
    ("notebook", 16, 21, 53_559_805),
    ("notebook", 16, 20, 53_557_068),
    ("notebook", 16, 19, 53_554_331),
    ("notebook", 8, 21, 53_556_733),
    ("notebook", 8, 20, 53_553_996),
    ("notebook", 8, 19, 53_551_259),
    ("tf-release", 16, 21, 41_055_413),
    ("tf-release", 8, 21, 41_055_413),
    ("tf-release", 32, 21, 41_055_413),
    ("tf-release", 16, 19, 41_054_899),
    ("tf-release-dense", 16, 21, 54_711_461),
    ("tf-release-dense", 8, 21, 54_711_461),
    ("tf-release-dense", 32, 21, 54_711_461),
]
# fmt: on


def parameters(module: nn.Module) -> int:
    """Count the trained parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("variant", "output_stride", "classes", "expected"), PUBLISHED)
def test_a_network_has_the_published_number_of_parameters(
    variant: str, output_stride: int, classes: int, expected: int
) -> None:
    """Counted on the modules, without storage for the weights."""
    with torch.device("meta"):
        network = build(variant, output_stride, classes)
    assert parameters(network) == expected
    assert parameters(network.backbone) == (37_959_912 if variant == "notebook" else 37_867_312)


@pytest.mark.parametrize(("output_stride", "expected"), [(16, 53_559_805), (8, 53_556_733)])
def test_the_documents_classes_make_the_documents_network(output_stride: int, expected: int) -> None:
    """Assembled by hand, as in the document."""
    with torch.device("meta"):
        network = DeepLab(Xception(output_stride), 21)
        named = build("notebook", output_stride)
    assert parameters(network) == expected
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    assert shapes == {name: value.shape for name, value in named.state_dict().items()}


def test_the_release_has_41_258_213_weights_with_its_running_statistics() -> None:
    """Mean and variance are stored beside the trained ones; the step counters are not weights."""
    with torch.device("meta"):
        network = build("tf-release")
    running = sum(buffer.numel() for name, buffer in network.named_buffers() if "running" in name)
    assert parameters(network) + running == 41_258_213


def test_dead_biases_of_the_document_are_93_928() -> None:
    """A normalisation cancels the bias before it; none follows the image pooling and the logits."""
    with torch.device("meta"):
        network = build("notebook")
    dead = 0
    for module in network.modules():
        conv, norm = getattr(module, "conv", None), getattr(module, "norm", None)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and conv.bias is not None:
            dead += conv.bias.numel()
    assert dead == 93_928


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("notebook", 32), "notebook has output strides 8, 16, but got 32"),
        (("tf-release", 4), "tf-release has output strides 8, 16, 32, but got 4"),
        (("notebook", 16, 0), "num_classes: must be 1 or more, but got 0"),
        (("resnet",), f"variant: must be one of {VARIANT_NAMES}, but got 'resnet'"),
        (("notebook", 16, 21, {"decoder": "maybe"}), "decoder: must be one of low_level, none, but got 'maybe'"),
        (("notebook", 16, 21, {"decoder": 3}), "decoder: must be one of low_level, none, but got '3'"),
        (("notebook", 16, 21, {"colour": 3}), "choice: must be one of activation_placement"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused_by_name(arguments: tuple[object, ...], message: str) -> None:
    """One kind of error, a ValueError, with the rule and the value."""
    with pytest.raises(SpecError) as caught:
        build(*arguments)  # type: ignore[arg-type]  # wrong on purpose
    assert isinstance(caught.value, ValueError)
    assert message in str(caught.value)


@pytest.mark.parametrize("rates", ["12,24,36", (12, 24, 36), [12, 24, 36]])
def test_a_choice_may_be_written_or_given(rates: object) -> None:
    """As text of a command line, or as a value of its own type."""
    network = build("notebook", choices={"width": NARROW, "aspp_rates": rates})  # type: ignore[dict-item]
    assert network.get_submodule("aspp.atrous3.conv").dilation == (36, 36)


def test_an_unknown_value_is_a_key_error() -> None:
    """A name that no layer computes is an error of the caller."""
    network = build("notebook", choices={"width": NARROW}).eval()
    with pytest.raises(KeyError, match=r"aspp\.concatenation"):
        network.intermediate(torch.zeros(1, 3, 9, 9), "aspp.concat", "aspp.concatenation")


@pytest.mark.deep
def test_a_forward_pass_under_compile_and_strict_export_has_no_break() -> None:
    """Input checks and intermediate values are ordinary code to both tracers.

    A process of its own, because the tracers do not read the run-time checks of shapes.
    """
    program = f"""
import torch
from deeplab_spec.reference.network import build
torch.set_num_threads(1)
network = build("tf-release", choices={{"width": {NARROW}, "middle_blocks": 1}}).eval()
image = torch.rand(1, 3, 33, 35)
with torch.no_grad():
    expected = network(image)
    compiled = torch.compile(network, backend="eager", fullgraph=True)(image)
    exported = torch.export.export(network, (image,), strict=True).module()(image)
print(torch.equal(compiled, expected), torch.equal(exported, expected))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "True True\n", done.stderr


TRUNCATION = 0.8796256610342398
"""Deviation of a unit normal distribution truncated at two deviations."""


def conv() -> nn.Conv2d:
    """Return a convolution with 147,456 weights: a deviation is then known to 0.2 percent."""
    return nn.Conv2d(64, 256, 3)


EXPECTED = {
    InitKind.KAIMING_FAN_IN: (Init(kind=InitKind.KAIMING_FAN_IN), math.sqrt(2 / (64 * 9))),
    InitKind.KAIMING_FAN_OUT: (Init(kind=InitKind.KAIMING_FAN_OUT), math.sqrt(2 / (256 * 9))),
    InitKind.TRUNCATED_NORMAL: (Init(kind=InitKind.TRUNCATED_NORMAL, std=0.09), 0.09 * TRUNCATION),
    InitKind.XAVIER_UNIFORM: (Init(kind=InitKind.XAVIER_UNIFORM), math.sqrt(2 / ((64 + 256) * 9))),
    InitKind.KAIMING_UNIFORM: (Init(kind=InitKind.KAIMING_UNIFORM), math.sqrt(2 / (64 * 9))),
    InitKind.VARIANCE_SCALING: (
        Init(kind=InitKind.VARIANCE_SCALING),
        math.sqrt(1.3 * 2 / (64 * 9)) * TRUNCATION,
    ),
    InitKind.NORMAL: (Init(kind=InitKind.NORMAL, std=0.02), 0.02),
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
    """The release redraws values outside."""
    torch.manual_seed(0)
    layer = conv()
    draw(layer, Init(kind=InitKind.TRUNCATED_NORMAL, std=0.09))
    assert 0.17 < layer.weight.abs().max().item() <= 0.18 * (1 + 1e-6)


@pytest.mark.parametrize("zero_bias", [True, False])
def test_a_bias_is_zero_exactly_if_the_row_says_so(zero_bias: bool) -> None:  # noqa: FBT001 - a parameter
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

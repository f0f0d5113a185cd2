"""The assembled networks have the published numbers of parameters, at full width."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from deeplab_spec.errors import SpecError
from deeplab_spec.reference.document import DeepLab, Xception
from deeplab_spec.reference.network import build
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
    """Count what is trained."""
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
    """Put together by hand, as the document does it."""
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
    """A normalisation undoes the bias before it; the image pooling and the logits have none after them."""
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
        (("resnet",), "variant: must be one of notebook, tf-release, tf-release-dense, but got 'resnet'"),
        (("notebook", 16, 21, {"decoder": "maybe"}), "decoder: must be one of low_level, none, but got 'maybe'"),
        (("notebook", 16, 21, {"decoder": 3}), "decoder: must be one of low_level, none, but got '3'"),
        (("notebook", 16, 21, {"colour": 3}), "choice: must be one of activation_placement"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(arguments: tuple[object, ...], message: str) -> None:
    """One kind of error, which is a ValueError, with the rule and what arrived."""
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
    """A name that no layer computes is a mistake of the caller, and nothing is returned."""
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

"""The document's own classes, run unchanged, against the classes of the same names here."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import deeplab_spec
from deeplab_spec.errors import BackboneError, SpecError
from deeplab_spec.reference import document as ours
from deeplab_spec.reference import document_layers
from deeplab_spec.reference.document import (
    BackboneModule,
    Conv2dLayer,
    DeepLab,
    SeparableConv2d,
    SeparableConv2dLayer,
    SkipBlock,
    Xception,
)
from tests.support import source_document as document
from tests.support.assertions import assert_near, assert_same, terms_of
from tests.support.source_document import build, cells, copy_weights, namespace
from tests.support.weights import make_whole, randomise_norms, whole


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    """The names that the document defines."""
    return namespace()


LAYERS: dict[str, Callable[[Any], nn.Module]] = {
    "conv": lambda n: n.Conv2dLayer(4, 6, 3, groups=2, stride=2, padding=1),
    "conv without bias": lambda n: n.Conv2dLayer(4, 6, 3, padding=2, dilation=2, bias=False),
    "conv with options": lambda n: n.Conv2dLayer(4, 6, 1, batchnorm_opts={"eps": 0.5, "momentum": 0.25}),
    "separable": lambda n: n.SeparableConv2d(4, 6, 3, stride=2, padding=1),
    "separable without bias": lambda n: n.SeparableConv2d(4, 6, 3, dilation=2, bias=False),
    "separable layer": lambda n: n.SeparableConv2dLayer(4, 6, 3, padding=3, dilation=3),
    "separable layer without bias": lambda n: n.SeparableConv2dLayer(4, 6, 3, stride=2, bias=False),
    "skip block": lambda n: n.SkipBlock(n.Conv2dLayer(4, 6, 1), n.SeparableConv2d(4, 6, 1), torch.add),
    "skip block of identity": lambda n: n.SkipBlock(n.Conv2dLayer(4, 4, 1), aggregator=torch.sub),
    "entry": lambda n: n.Xception.EntryFlowBlock(4, 6),
    "entry atrous": lambda n: n.Xception.EntryFlowBlock(4, 6, atrous=True),
    "entry atrous at a rate": lambda n: n.Xception.EntryFlowBlock(4, 6, dilation=2, atrous=True),
    "middle": lambda n: n.Xception.MiddleFlowBlock(4, 4),
    "middle at a rate": lambda n: n.Xception.MiddleFlowBlock(4, 4, dilation=2),
    "exit": lambda n: n.Xception.ExitFlowBlock(4, 6),
    "exit atrous at a rate": lambda n: n.Xception.ExitFlowBlock(4, 6, dilation=2, atrous=True),
}


def both(make: Callable[[Any], nn.Module], theirs: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    """Return the document's module and this package's, from one expression."""
    names = {**vars(document_layers), **vars(ours)}
    return make(document._Module(theirs)), make(document._Module(names))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("size", [(9, 9), (8, 11)])
@torch.no_grad()
def test_a_layer_computes_what_the_documents_computes(
    layer: str, size: tuple[int, int], theirs: dict[str, Any]
) -> None:
    """With whole weights, the results are equal bit for bit."""
    reference, module = both(LAYERS[layer], theirs)
    make_whole(module, 1)
    copy_weights(module, reference.double().eval())
    image = whole((2, 4, *size), 2)
    assert_same(module(image), reference(image.clone()), layer)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_training_step_is_the_documents(layer: str, theirs: dict[str, Any]) -> None:
    """Gradients of every weight, and the running statistics after one batch."""
    reference, module = both(LAYERS[layer], theirs)
    randomise_norms(module, 1)
    copy_weights(module, reference.double())
    image = whole((2, 4, 9, 8), 2)
    for side in (module, reference):
        side.train()
        side(image.clone()).square().mean().backward()
    for (name, actual), expected in zip(module.named_parameters(), reference.parameters(), strict=True):
        assert actual.grad is not None
        assert expected.grad is not None
        assert_near(actual.grad, expected.grad, f"gradient of {name}", terms=1000)
    for (name, actual), expected in zip(module.named_buffers(), reference.buffers(), strict=True):
        assert_same(actual, expected, name)


@pytest.mark.parametrize("output_stride", [8, 16])
@torch.no_grad()
def test_a_pyramid_alone_is_the_documents(output_stride: int, theirs: dict[str, Any]) -> None:
    """With the rates of its output stride."""
    reference, module = both(lambda n: n.DeepLab.ASPP(4, output_stride), theirs)
    randomise_norms(module, 1)
    copy_weights(module, reference.double().eval())
    image = whole((2, 4, 41, 38), 2)
    assert_same(module(image), reference(image.clone()), "pyramid")


@torch.no_grad()
def test_a_decoder_alone_is_the_documents(theirs: dict[str, Any]) -> None:
    """From any low-level channels to any classes."""
    reference, module = both(lambda n: n.DeepLab.Decoder(4, 5), theirs)
    randomise_norms(module, 1)
    copy_weights(module, reference.double().eval())
    features, low_level = whole((2, 256, 5, 6), 2), whole((2, 4, 9, 13), 3)
    assert_same(module(features.clone(), low_level), reference(features.clone(), low_level.clone()), "decoder")


@pytest.mark.parametrize("output_stride", [8, pytest.param(16, marks=pytest.mark.deep)])
@torch.no_grad()
def test_the_network_is_the_documents(output_stride: int) -> None:
    """The same weights give the same logits, to the order of sums, at every size."""
    reference = build(output_stride, 3)
    module = deeplab_spec.build("notebook", output_stride, 3)
    randomise_norms(module, 1)
    copy_weights(module, reference.double().eval())
    for size in ((33, 33), (48, 35)):
        image = whole((1, 3, *size), 2) / 3
        assert_near(module(image), reference(image.clone()), f"logits at {size}", terms=terms_of(module))
    expected: Any = reference.backbone
    for name in ("output_stride", "out_channels", "low_out_channels"):
        assert getattr(module.backbone, name) == getattr(expected, name)


@pytest.mark.usefixtures("without_shape_checks")
def test_errors_are_the_documents(theirs: dict[str, Any]) -> None:
    """The error types are the document's; the messages are longer."""
    wrong: list[Callable[[Any], object]] = [
        lambda n: n.Xception(32),
        lambda n: n.DeepLab.ASPP(4, 32),
        lambda n: n.DeepLab(nn.Identity(), 3),
        lambda n: n.SkipBlock(nn.Identity())(torch.zeros(1, 1, 1, 1)),
    ]
    for make, kind in zip(wrong, (ValueError, ValueError, RuntimeError, TypeError), strict=True):
        for side in (theirs, vars(ours)):
            with pytest.raises(kind):
                make(document._Module(dict(side)))


def test_the_documents_checkpoint_is_not_portable_and_ours_has_one_tree(theirs: dict[str, Any]) -> None:
    """Erratum of the document: it splits its entry flow at another place at each output stride."""
    keys = {}
    with torch.device("meta"):
        for output_stride in (8, 16):
            keys[output_stride] = list(theirs["Xception"](output_stride).state_dict())
    assert keys[8] != keys[16]


def test_cells_end_where_prose_begins() -> None:
    """Headings, images and links are not code; blank lines, comments and closing brackets are."""
    code = ["x = f(\n    1\n)\n\n# a comment", "def g():\n    pass"]
    text = f"# Title\n\nIn [None]:\n{code[0]}\n## Heading\n\n![image](a.png)\nIn [2]:\n{code[1]}\n"
    assert cells(text) == code


def test_without_the_variable_the_document_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skipped with a reason, never passed."""
    monkeypatch.delenv(document.VARIABLE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="not run: DEEPLAB_SPEC_DOCUMENT is not set"):
        namespace()


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
    """The head needs its channels and its output stride."""
    with pytest.raises(RuntimeError, match="must be a BackboneModule, but is a Linear") as caught:
        DeepLab(nn.Linear(1, 1), 21)  # type: ignore[arg-type]  # wrong on purpose
    assert isinstance(caught.value, BackboneError)


@pytest.mark.parametrize("classes", [0, -1])
def test_a_network_without_classes_is_refused(classes: int) -> None:
    """A network needs a class."""
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


def test_the_head_follows_the_output_stride_of_any_backbone_module() -> None:
    """A backbone that reports 8 gets the doubled rates, which the document's own never uses."""
    network = DeepLab(Shrink(), 5).eval()
    assert network(torch.rand(2, 3, 32, 40)).shape == (2, 5, 32, 40)
    assert network.get_submodule("aspp.atrous1.conv").dilation == (12, 12)


def test_only_the_whole_network_draws_kaiming_weights() -> None:
    """A layer that is built alone has the framework's default distribution."""
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

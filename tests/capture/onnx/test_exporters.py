"""Files of both exporters, in every opset that they write, equal the exported network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deeplab_spec.align.differences import Aspect, differences
from deeplab_spec.align.match import align
from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.onnx.file import OnnxFile, read_onnx
from deeplab_spec.errors import CaptureError
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Opaque, Resize
from deeplab_spec.reference.network import build
from deeplab_spec.spec.api import network
from tests.support.graphs import normal, normal_capture
from tests.support.onnx_files import edited, export
from tests.support.strategies import NARROW
from tests.support.weights import randomise_norms, whole

SIZE = (97, 70)
CHOICES = {"width": NARROW, "middle_blocks": 2}


@dataclass(frozen=True)
class Case:
    """One way to make a file."""

    variant: str
    output_stride: int
    dynamo: bool
    opset: int
    free: bool = False

    def __str__(self) -> str:
        exporter = "current" if self.dynamo else "torchscript"
        return f"{self.variant}-{self.output_stride}-{exporter}-{self.opset}{'-free' * self.free}"


USUAL = [
    Case("notebook", 16, dynamo=False, opset=17, free=True),
    Case("tf-release", 8, dynamo=False, opset=11),
    Case("tf-release", 16, dynamo=True, opset=18),
]
NETWORKS = [("notebook", 16), ("notebook", 8), ("tf-release", 16), ("tf-release", 8)]
EVERY = [
    Case(variant, output_stride, dynamo, opset, free)
    for number, (variant, output_stride) in enumerate(NETWORKS)
    for dynamo, opsets in ((False, range(11, 24)), (True, range(18, 27)))
    for opset in opsets
    for free in (False, True)
    if opset % 4 == number  # every opset once, every network by both exporters: exports are slow
]
DEEP = [pytest.param(case, id=str(case), marks=pytest.mark.deep) for case in EVERY if case not in USUAL]


@dataclass(frozen=True)
class Exported:
    """A file, and the network that was exported."""

    case: Case
    path: Path
    module: nn.Module
    file: OnnxFile
    image: Tensor


@pytest.fixture(scope="module", params=[*(pytest.param(case, id=str(case)) for case in USUAL), *DEEP])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Return a file of an exporter."""
    case: Case = request.param
    module = randomise_norms(build(case.variant, case.output_stride, 5, CHOICES), 0).float()
    shape = (2, 3, 64, 80) if case.free else (1, 3, *SIZE)
    path = tmp_path_factory.mktemp("exported") / "network.onnx"
    export(module, torch.zeros(shape), path, dynamo=case.dynamo, free=case.free, opset_version=case.opset)
    return Exported(case, path, module, read_onnx(path, "network.onnx"), whole((1, 3, *SIZE), 0).float())


def _folded_away(aspect: Aspect) -> bool:
    """Tell whether a difference is an effect of folded normalisations."""
    return isinstance(aspect.op, BatchNorm) or (isinstance(aspect.op, Conv2d) and aspect.attribute == "bias")


def _differences(captured: Capture, case: Case) -> tuple[Aspect, ...]:
    expected = normal(network(case.variant, case.output_stride, 5, CHOICES), SIZE)
    return differences(align(expected, normal_capture(captured)))


def test_an_exported_file_is_the_network_but_for_the_folded_normalisations(exported: Exported) -> None:
    """Every operator is known; every normalisation is folded, and nothing else differs."""
    captured = exported.file.read([exported.image])
    differences = _differences(captured, exported.case)

    assert not [node.path for node in captured.network if isinstance(node.op, Opaque)]
    assert [aspect for aspect in differences if not _folded_away(aspect)] == []
    norms = sum(isinstance(node.op, BatchNorm) for node in network(exported.case.variant, 16, 5, CHOICES))
    assert sum(isinstance(aspect.op, BatchNorm) for aspect in differences) == norms
    assert set(captured.parameters.values()) == set(exported.file.tensors), "every weight has a place"


def test_an_exported_file_computes_what_the_module_computes(exported: Exported) -> None:
    """The graph in float64 up to the rounding of the folded weights, the runtime up to that of every step."""
    file, image = exported.file, exported.image
    with torch.no_grad():
        expected = exported.module.double()(image.double())
        exact = file.double()(image.double())
        single = file.float()(image)

    assert exact.dtype is torch.float64
    assert _unlike(exact, expected) < 1e-5
    assert single.dtype is torch.float32
    assert _unlike(single.double(), exact) < 1e-4


def _unlike(actual: Tensor, expected: Tensor) -> float:
    assert actual.shape == expected.shape
    return float((actual - expected).abs().max() / expected.abs().max())


def test_a_file_states_the_sizes_that_it_takes(exported: Exported) -> None:
    """Free sides accept any size; fixed ones reject any other size, run or read."""
    free, file = exported.case.free, exported.file
    assert file.shapes == ((None, 3, None, None),) if free else ((1, 3, *SIZE),)
    other = torch.zeros(2, 3, 64, 64)
    if free:
        assert file(other).shape == (2, 5, 64, 64)
        assert file.read([other]).shapes["output"] == (2, 5, 64, 64)
        return
    for ask in (file, lambda image: file.read([image])):
        with pytest.raises(CaptureError, match=r"takes an input of shape \(1, 3, 97, 70\), but got \(2, 3, 64, 64\)"):
            ask(other)


def _dilate(model: Any) -> None:
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    first = next(node for node in convs if _attribute(node, "dilations").ints[0] > 1)
    _attribute(first, "dilations").ints[:] = [3, 3]
    _attribute(first, "pads").ints[:] = [3, 3, 3, 3]


def _move_corners(model: Any) -> None:
    last = [node for node in model.graph.node if node.op_type == "Resize"][-1]
    _attribute(last, "coordinate_transformation_mode").s = b"half_pixel"


def _attribute(node: Any, name: str) -> Any:
    return next(attribute for attribute in node.attribute if attribute.name == name)


@pytest.mark.parametrize(
    ("edit", "operator", "attribute"),
    [(_dilate, "Conv", "rate"), (_move_corners, "Resize", "align_corners")],
    ids=["rate", "corners"],
)
def test_an_edited_attribute_is_found_at_its_node(exported: Exported, edit: Any, operator: str, attribute: str) -> None:
    """One attribute of one node differs, and the node is named as in the file."""
    file = read_onnx(edited(exported.path, edit), "edited.onnx")
    captured = file.read([exported.image])
    differences = [aspect for aspect in _differences(captured, exported.case) if not _folded_away(aspect)]

    assert [aspect.attribute for aspect in differences if aspect.attribute == attribute]
    assert len({aspect.candidate_path for aspect in differences}) == 1
    assert captured.network[differences[0].candidate_path or ""].source.place == operator  # type: ignore[union-attr]  # every node has one


class Pyramid(nn.Module):
    """Operations that depend on the image's size: a stride, an image pooling, a resize to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.pool = nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return two maps of the image's size."""
        x = self.first(image).relu()
        pooled = self.pool(x.mean(dim=(2, 3), keepdim=True)).expand_as(x)
        x = self.last(torch.cat([pooled, x], dim=1))
        return functional.interpolate(x, size=image.shape[2:], mode="bilinear", align_corners=True)


@pytest.mark.parametrize("dynamo", [True, False], ids=["current", "torchscript"])
def test_a_file_of_free_sizes_is_read_at_any(tmp_path: Path, dynamo: bool) -> None:  # noqa: FBT001 - a parameter
    """Values that depend on the image's size are computed for each size."""
    module = Pyramid()
    path = tmp_path / "free.onnx"
    export(module, torch.zeros(2, 3, 16, 24), path, dynamo=dynamo, free=True, opset_version=18)
    file = read_onnx(path, "free.onnx")
    assert file.shapes == ((None, 3, None, None),)

    for shape in ((1, 3, 33, 20), (3, 3, 9, 40)):
        image = whole(shape, 0).float()
        sizes = [node.op.size for node in file.read([image]).network if isinstance(node.op, Resize)]
        assert sizes == [((shape[2] + 1) // 2, (shape[3] + 1) // 2), shape[2:]]
        with torch.no_grad():
            expected = module(image)
        torch.testing.assert_close(file(image), expected)
        torch.testing.assert_close(file.double()(image.double()).float(), expected)
        file.float()


def test_normalisations_that_an_exporter_keeps_are_read(tmp_path: Path) -> None:
    """With their eps and momentum; then nothing differs at all."""
    case = Case("tf-release", 16, dynamo=False, opset=17)
    module = randomise_norms(build("tf-release", 16, 5, CHOICES), 0).float()
    kept = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    path = export(module, torch.zeros(1, 3, *SIZE), tmp_path / "kept.onnx", dynamo=False, opset_version=17, **kept)
    file = read_onnx(path, "kept.onnx")
    image = whole((1, 3, *SIZE), 0).float()
    captured = file.read([image])

    assert _differences(captured, case) == ()
    spec = network("tf-release", 16, 5, CHOICES)
    assert {node.op for node in captured.network if isinstance(node.op, BatchNorm)} == {
        node.op for node in spec if isinstance(node.op, BatchNorm)
    }
    with torch.no_grad():
        assert _unlike(file.double()(image.double()), module.double()(image.double())) < 1e-5


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_equal_tensors_that_the_exporter_writes_once_are_weights_of_their_own(tmp_path: Path, value: float) -> None:
    """Two convolutions with equal biases: each bias can be changed alone."""
    first, second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
    for layer in (first, second):
        nn.init.constant_(layer.bias, value)
    image = torch.ones(1, 3, 5, 5)
    path = export(nn.Sequential(first, second), image, tmp_path / "two.onnx", dynamo=False, opset_version=17)
    file = read_onnx(path, "two.onnx")
    names = file.read([image]).parameters
    biases = [name for where, name in names.items() if where.endswith(".bias")]
    assert len(set(biases)) == 2

    before = file(image)
    file.tensors[biases[1]].copy_(torch.full((4,), value + 1))

    torch.testing.assert_close(file(image), before + 1)

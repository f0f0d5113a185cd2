"""A network in any form, exported, folded or ONNX, is judged as the network that it is."""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import onnx
import pytest
import torch
from onnx import ModelProto, helper
from torch import Tensor, nn
from torch.export import ExportedProgram

import deeplab_spec
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.judge.plan import telling_sizes
from deeplab_spec.measure.rewrites import folded
from deeplab_spec.reference.network import build
from deeplab_spec.spec.clauses import Level
from deeplab_spec.spec.network import network as specification
from deeplab_spec.spec.variants import variant as published
from tests.support.candidates import SMALL
from tests.support.onnx_files import edited, export

FAULTY = "backbone.middle_flow.block2.sepconv2.depthwise.conv"
BEFORE = 9 + 3 + 1
"""Depthwise convolutions that stand before it: three blocks of the entry flow, one of the middle."""

KINDS = ("pt2", "onnx", "onnx of TorchScript", "folded")
USUAL = {("onnx", "tf-release", 16)}
USUAL_FAULTS = {("pt2", "notebook", 16), ("onnx of TorchScript", "tf-release", 16)}
"""Of every kind of file something in the usual run; all of them in the deep one."""

Make = Callable[[Path, nn.Module, Tensor], nn.Module | str]
"""Hands a network on: writes its file and returns the path, or returns another module."""


def _program(module: nn.Module, image: Tensor) -> ExportedProgram:
    return torch.export.export(module, (image,), strict=False)


def _save(program: ExportedProgram, directory: Path) -> str:
    path = directory / "network.pt2"
    torch.export.save(program, path)
    return str(path)


FILES: dict[str, Make] = {
    "pt2": lambda directory, module, image: _save(_program(module, image), directory),
    "onnx": lambda directory, module, image: str(export(module, image, directory / "new.onnx", dynamo=True)),
    "onnx of TorchScript": lambda directory, module, image: str(
        export(module, image, directory / "old.onnx", dynamo=False)
    ),
    "folded": lambda _, module, image: folded(module, image),
}


def _network(variant: str, output_stride: int) -> tuple[nn.Module, Tensor]:
    """Return a narrow network, and the smallest image on which every rate is visible."""
    torch.manual_seed(0)
    graph = specification(published(variant).choices, output_stride)
    size = telling_sizes(graph, output_stride)[0]
    return build(variant, output_stride, 21, SMALL).eval(), torch.randn(1, 3, *size)


def _judge(
    handed_on: nn.Module | str, variant: str, output_stride: int, levels: Sequence[str] = tuple(Level)
) -> Certificate:
    """Judge a file, which says its own output stride, or a module."""
    strides = () if isinstance(handed_on, str) else (output_stride,)
    return deeplab_spec.certify(handed_on, variant, choices=SMALL, output_strides=strides, levels=levels)


def _open(certificate: Certificate) -> list[str]:
    return [
        f"{clause.id}: {clause.reason or clause.findings[:1]}"
        for clause in certificate.clauses
        if clause.verdict in {Verdict.FAILED, Verdict.UNDECIDED}
    ]


def _check_refused(certificate: Certificate) -> None:
    assert certificate.verdict is RunVerdict.DEVIATES
    structure = [clause for clause in certificate.clauses if clause.level == "structure"]
    found = {(finding.path, finding.attribute) for clause in structure for finding in clause.findings}
    assert found == {(FAULTY, "rate")}
    numerics = [clause for clause in certificate.clauses if clause.level == "numerics"]
    assert {finding.path for clause in numerics for finding in clause.findings} == {FAULTY}
    assert certificate.first_divergence is not None
    assert certificate.first_divergence.path == FAULTY
    assert certificate.first_divergence.smallest_input is not None


@pytest.mark.parametrize(
    ("kind", "variant", "output_stride"),
    [
        case if case in USUAL else pytest.param(*case, marks=pytest.mark.deep)
        for case in product(KINDS, ("notebook", "tf-release"), (16, 8))
    ],
)
def test_it_conforms_however_it_is_handed_on(kind: str, variant: str, output_stride: int, tmp_path: Path) -> None:
    """Exporters fold normalisations and rename everything; the network is the same."""
    certificate = _judge(FILES[kind](tmp_path, *_network(variant, output_stride)), variant, output_stride)

    assert _open(certificate) == []
    assert certificate.verdict is RunVerdict.CONFORMS
    assert {case.output_stride for case in certificate.cases} == {output_stride}
    not_applicable = {clause.id for clause in certificate.clauses if clause.verdict is Verdict.NOT_APPLICABLE}
    assert ("BACKBONE-NORM-EPS" in not_applicable) is (kind != "pt2")
    assert {clause.id for clause in certificate.clauses if clause.level == "training"} <= not_applicable


def _faulty_program(directory: Path, module: nn.Module, image: Tensor) -> str:
    program = _program(module, image)
    convs = [node for node in program.graph.nodes if "conv2d" in str(node.target) and node.args[6:] not in {(), (1,)}]
    node = convs[BEFORE]
    node.args = (*node.args[:4], [3, 3], [3, 3], node.args[6])
    program.graph_module.recompile()
    return _save(program, directory)


def _faulty_onnx(model: ModelProto) -> None:
    convs = [node for node in model.graph.node if node.op_type == "Conv" and _attribute(node, "group") not in {None, 1}]
    node = convs[BEFORE]
    for name, value in (("dilations", [3, 3]), ("pads", [3, 3, 3, 3])):
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])


def _attribute(node: onnx.NodeProto, name: str) -> object:
    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), None)


def _faulty_module(_: Path, module: nn.Module, image: Tensor) -> nn.Module:
    changed = folded(module, image)
    _spoil(changed)
    return changed


def _spoil(module: nn.Module) -> None:
    conv = module.get_submodule(FAULTY)
    assert isinstance(conv, nn.Conv2d)
    conv.dilation, conv.padding = (3, 3), (3, 3)


FAULTS: dict[str, Make] = {
    "pt2": _faulty_program,
    "onnx": lambda directory, module, image: str(
        edited(Path(str(FILES["onnx"](directory, module, image))), _faulty_onnx)
    ),
    "onnx of TorchScript": lambda directory, module, image: str(
        edited(Path(str(FILES["onnx of TorchScript"](directory, module, image))), _faulty_onnx)
    ),
    "folded": _faulty_module,
}


@pytest.mark.parametrize(
    ("kind", "variant", "output_stride"),
    [
        case if case in USUAL_FAULTS else pytest.param(*case, marks=pytest.mark.deep)
        for case in product(KINDS, ("notebook", "tf-release"), (16, 8))
    ],
)
def test_a_fault_in_a_file_is_named(kind: str, variant: str, output_stride: int, tmp_path: Path) -> None:
    """The module is right; the file, or the folded network, is edited at one node."""
    handed_on = FAULTS[kind](tmp_path, *_network(variant, output_stride))

    _check_refused(_judge(handed_on, variant, output_stride, (Level.STRUCTURE, Level.NUMERICS)))

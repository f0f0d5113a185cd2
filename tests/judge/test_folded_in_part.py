"""A network with some normalisations folded is judged by the others."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import deeplab_spec
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Op
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.mutate.rewrites.catalogue import rewrite
from deeplab_spec.mutate.rewrites.graphs import folding, norms_below
from deeplab_spec.reference.conv import ConvUnit
from deeplab_spec.reference.network import build
from deeplab_spec.spec.clauses import Level
from deeplab_spec.strength.modules import original_of, small
from deeplab_spec.strength.processes import judge

HEAD = rewrite("notebook/16/folded normalisations/head")
SMALL = small("notebook")
NORM = "backbone.entry_flow.block2.sepconv1.depthwise.norm"


def judged_with(tmp_path: Path, changed: Mapping[str, Op]) -> Certificate:
    """Judge the structure of the source document's network with a folded head, and some operations changed."""
    original = original_of(HEAD, tmp_path)
    nodes = (replace(node, op=changed.get(node.path, node.op)) for node in original.network)
    original = original.with_network(original.network.with_nodes(nodes))
    return judge(folding(original, norms_below(original, "aspp.", "decoder.")), HEAD, SMALL, (Level.STRUCTURE,))


def test_only_clauses_about_nothing_but_folded_normalisations_are_not_applicable(tmp_path: Path) -> None:
    """The head has no normalisation left; its only bias that belongs to none, in image pooling, is decided still."""
    certificate = judged_with(tmp_path, {})

    assert certificate.verdict is RunVerdict.CONFORMS
    assert {clause.id for clause in certificate.clauses if clause.verdict is Verdict.NOT_APPLICABLE} == {
        "HEAD-NORM-EPS"
    }
    decided = {clause.id: clause.decisions for clause in certificate.clauses}
    assert decided["BACKBONE-NORM-EPS"] > 1
    assert decided["HEAD-BIAS"] > 1


def test_the_eps_of_a_normalisation_that_is_left_is_decided(tmp_path: Path) -> None:
    """Another eps in the backbone is found, whatever was folded elsewhere."""
    certificate = judged_with(tmp_path, {NORM: BatchNorm(channels=_channels(tmp_path), eps=1e-5, momentum=3e-4)})

    found = {(f.path, f.attribute) for clause in certificate.clauses for f in clause.findings}
    assert found == {(NORM, "eps")}


def test_a_folded_convolution_is_decided_otherwise_too(tmp_path: Path) -> None:
    """The rate of a convolution that holds its normalisation."""
    path = "aspp.atrous2.conv"
    op = original_of(HEAD, tmp_path).network[path].op
    assert isinstance(op, Conv2d)
    certificate = judged_with(tmp_path, {path: replace(op, rate=(11, 11), padding=(11, 11, 11, 11))})

    assert {(f.path, f.attribute) for clause in certificate.clauses for f in clause.findings} == {(path, "rate")}


def test_a_single_normalisation_that_is_missing_is_missed(tmp_path: Path) -> None:
    """Its convolution has a bias anyway, so nothing shows that it was folded."""
    original = original_of(HEAD, tmp_path)
    certificate = judge(folding(original, (NORM,)), HEAD, SMALL, (Level.STRUCTURE,))

    assert certificate.verdict is RunVerdict.DEVIATES
    assert {(f.path, f.attribute) for clause in certificate.clauses for f in clause.findings} == {(NORM, "node")}


def test_a_normalisation_that_a_bias_stands_for_is_folded(tmp_path: Path) -> None:
    """The convolutions of the authors' release have no bias of their own."""
    one = rewrite("tf-release/16/folded normalisations/every other")
    certificate = judge(folding(original_of(one, tmp_path), (NORM,)), one, SMALL, (Level.STRUCTURE,))

    assert certificate.verdict is RunVerdict.CONFORMS


def folded_by_torch(variant: str, part: str) -> nn.Module:
    """Return a narrow network whose normalisations below a path are folded by the framework's own function."""
    module = build(variant, choices=SMALL).eval()
    for unit in module.modules():
        if isinstance(unit, nn.BatchNorm2d):
            nn.init.uniform_(unit.get_buffer("running_mean"))
            nn.init.uniform_(unit.get_buffer("running_var"), 0.5, 2.0)
    for name, unit in module.named_modules():
        if name.startswith(part) and isinstance(unit, ConvUnit) and isinstance(unit.norm, nn.BatchNorm2d):
            unit.conv = fuse_conv_bn_eval(unit.conv, unit.norm)
            unit.add_module("norm", nn.Identity())
    return module


@pytest.mark.parametrize(
    ("variant", "part"),
    [
        ("tf-release", "aspp"),
        ("tf-release", ""),
        pytest.param("tf-release", "backbone", marks=pytest.mark.deep),
        pytest.param("notebook", "backbone", marks=pytest.mark.deep),
    ],
)
def test_a_network_that_the_framework_folded_conforms_for_inference(variant: str, part: str) -> None:
    """The biases that the framework adds have no gradient; what is not folded is trained."""
    certificate = deeplab_spec.certify(folded_by_torch(variant, part), variant, choices=SMALL)

    assert certificate.verdict is RunVerdict.CONFORMS
    assert certificate.levels["training"] is (Verdict.PASSED if part else Verdict.NOT_APPLICABLE)
    reasons = {clause.reason for clause in certificate.clauses if clause.level == "training"}
    folded = "its normalisations are folded into its convolutions, for inference only"
    assert part or reasons == {folded}


def frozen() -> nn.Module:
    """Return a network with a folded backbone, and a kernel without gradients elsewhere."""
    module = folded_by_torch("tf-release", "backbone")
    module.get_parameter("decoder.low_level.conv.weight").requires_grad_(requires_grad=False)
    return module


def test_a_network_with_some_normalisations_folded_is_trained() -> None:
    """A parameter that no folding leaves without gradients must get one."""
    certificate = deeplab_spec.certify(frozen(), "tf-release", choices=SMALL, levels=("training",))

    assert certificate.verdict is RunVerdict.DEVIATES
    found = {finding.path for clause in certificate.clauses for finding in clause.findings}
    assert all(path.startswith("decoder.") for path in found)


def _channels(tmp_path: Path) -> int:
    op = original_of(HEAD, tmp_path).network[NORM].op
    assert isinstance(op, BatchNorm)
    return op.channels

"""Real implementations, at full size: every deviation at its node, and no other."""

import pytest

import deeplab_spec
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import Finding, RunVerdict, Verdict
from deeplab_spec.spec.clauses import Level
from tests.support.peers import smp_deeplab, timm_backbone
from tests.support.real_networks import NETWORKS, comparable, load, record, slug
from tests.support.source_document import build as build_document

Places = set[tuple[str, str]]
EVALUATION = (Level.INTERFACE, Level.STRUCTURE, Level.NUMERICS)
OPEN = {Verdict.FAILED, Verdict.UNDECIDED}
Findings = tuple[Finding, ...]


def found(certificate: Certificate, level: str) -> Places:
    """Return path and attribute of every finding of a level."""
    clauses = [clause for clause in certificate.clauses if clause.level == level]
    return {(finding.path, finding.attribute) for clause in clauses for finding in clause.findings}


BARE = {
    (f"{unit}.depthwise.{layer}", "node")
    for unit in ("aspp.atrous1", "aspp.atrous2", "aspp.atrous3", "decoder.conv1")
    for layer in ("norm", "activation")
}
SECOND_CONV = {
    (f"decoder.conv2.{half}.{layer}", "node")
    for half in ("depthwise", "pointwise")
    for layer in ("conv", "norm", "activation")
}
RATES = {(f"aspp.atrous{branch}.depthwise.conv", "rate") for branch in (1, 2, 3)}
TAP = {("decoder.low_level.conv", "inputs")}
EXTRA_UNIT = {("aspp.projection.activation", "node")}
"""Four nodes behind the projection, all of them at the node that they follow."""


@pytest.fixture
def levels(request: pytest.FixtureRequest) -> tuple[Level, ...]:
    """Training at full width is for the deep tests."""
    return tuple(Level) if request.config.getoption("--deep") else EVALUATION


def in_training(certificate: Certificate, clause: str) -> Findings:
    """Return the findings of a clause of training."""
    (record,) = (record for record in certificate.clauses if record.id == clause)
    assert record.level == "training"
    return record.findings


def refused_in_training(certificate: Certificate) -> set[str]:
    """Return the clauses of training that are false."""
    clauses = [clause for clause in certificate.clauses if clause.level == "training"]
    return {clause.id for clause in clauses if clause.verdict is Verdict.FAILED}


def check_drawn_and_averaged_otherwise(certificate: Certificate, norms: int) -> None:
    """Check what timm's networks do otherwise in training: the framework's momentum, and another initialisation."""
    momenta = in_training(certificate, "BN-MOMENTUM")
    assert {(finding.choice, finding.actual) for finding in momenta} == {("norm_momentum", 0.1)}
    assert len({finding.path for finding in momenta}) == len(momenta) == norms
    drawn = in_training(certificate, "INITIALISATION")
    assert {finding.choice for finding in drawn} == {"init"}
    assert all(finding.path.endswith(".conv") for finding in drawn)


def check_smp(certificate: Certificate, structure: Places, choices: dict[str, object]) -> None:
    """Compare a certificate of segmentation_models_pytorch's network with what is known of it."""
    assert certificate.verdict is RunVerdict.DEVIATES
    failed = {clause.id for clause in certificate.clauses if clause.verdict is Verdict.FAILED}
    assert {name for name in failed if name in INTERFACE} == {"SIZES-ACCEPTED"}
    assert found(certificate, "structure") == structure
    assert {path for path, _ in found(certificate, "numerics")} <= {path for path, _ in structure}
    assert found(certificate, "numerics")
    assert certificate.nearest is not None
    assert certificate.nearest.variant == "smp-xception65"
    assert certificate.nearest.choices == choices
    unexplained = [
        finding.path for clause in certificate.clauses for finding in clause.findings if finding.choice is None
    ]
    assert not unexplained


def check_smp_in_training(certificate: Certificate) -> None:
    """Check what it does otherwise in training."""
    assert refused_in_training(certificate) == {"BN-MOMENTUM", "DROPOUT", "INITIALISATION"}
    check_drawn_and_averaged_otherwise(certificate, norms=140)
    (dropout,) = in_training(certificate, "DROPOUT")
    assert (dropout.path, dropout.candidate_path) == ("aspp.dropout", "decoder.aspp.0.project.3")
    assert (dropout.choice, dropout.expected, dropout.actual) == ("aspp_dropout", 0.1, 0.5)


INTERFACE = {
    "OUTPUT-TENSOR",
    "OUTPUT-SHAPE",
    "OUTPUT-DTYPE",
    "OUTPUT-FINITE",
    "SIZES-ACCEPTED",
    "BATCHES-ACCEPTED",
    "LAYOUTS-ACCEPTED",
    "DETERMINISM",
    "BATCH-INDEPENDENCE",
    "INPUT-UNCHANGED",
    "STATE-UNCHANGED",
    "BAD-INPUT-REFUSED",
}


@pytest.mark.deep
def test_segmentation_models_pytorch_deviates_from_the_release(levels: tuple[Level, ...]) -> None:
    """Its rates do not follow the output stride; four layers are bare; one unit too many, one too few.

    In training: the framework's momentum, more dropout, and another initialisation.
    """
    certificate = deeplab_spec.certify(smp_deeplab, "tf-release", levels=levels)

    structure = BARE | SECOND_CONV | RATES | TAP | EXTRA_UNIT
    if Level.TRAINING in levels:
        check_smp_in_training(certificate)
    check_smp(certificate, structure, {})
    extra = [finding for clause in certificate.clauses for finding in clause.findings if finding.expected == "absent"]
    assert len(extra) == 4


@pytest.mark.deep
def test_segmentation_models_pytorch_has_the_right_rates_at_output_stride_8() -> None:
    """12, 24 and 36 are what output stride 8 asks for, so there the rates are no deviation."""
    certificate = deeplab_spec.certify(smp_deeplab, "tf-release", output_strides=[8])

    check_smp_in_training(certificate)
    check_smp(certificate, BARE | SECOND_CONV | TAP | EXTRA_UNIT, {})


def test_segmentation_models_pytorch_conforms_as_its_own_member(levels: tuple[Level, ...]) -> None:
    """Its network on timm's xception65 is the variant of that name."""
    levels = tuple(Level) if Level.TRAINING in levels else (Level.STRUCTURE,)
    certificate = deeplab_spec.certify(smp_deeplab, "smp-xception65", levels=levels)

    assert [clause.id for clause in certificate.clauses if clause.verdict in OPEN] == []
    assert certificate.verdict is RunVerdict.CONFORMS


def test_timms_backbone_deviates_at_its_tap_and_in_training(levels: tuple[Level, ...]) -> None:
    """Its feature of stride 4 is taken after the ReLU; it has the framework's momentum, and its own initialisation."""
    levels = tuple(level for level in levels if level is not Level.INTERFACE)
    certificate = deeplab_spec.certify(timm_backbone, "tf-release", part="backbone", levels=levels)

    assert certificate.verdict is RunVerdict.DEVIATES
    inside = [clause for clause in certificate.clauses if clause.level in {"structure", "numerics"}]
    assert {finding.path for clause in inside for finding in clause.findings} == {"output.low_level"}
    assert found(certificate, "structure") == {("output.low_level", "inputs")}
    assert certificate.nearest is not None
    if Level.TRAINING in levels:
        assert refused_in_training(certificate) == {"BN-MOMENTUM", "INITIALISATION"}
        check_drawn_and_averaged_otherwise(certificate, norms=132)
    assert certificate.nearest.variant == "smp-xception65"


def test_torchvisions_deeplabv3_is_another_network() -> None:
    """It is DeepLabv3 on a ResNet: one sentence, one finding. So ``reports/networks/`` says."""
    (network,) = (
        network for network in NETWORKS if slug(network) == "torchvision-deeplabv3_resnet50-as-tf-release-os16"
    )
    certificate = network.judge()
    assert comparable(record(network, certificate)) == comparable(load()[slug(network)])

    assert certificate.verdict is RunVerdict.DEVIATES
    assert certificate.nearest is None
    assert certificate.another_network is not None
    assert "no decoder" in certificate.another_network
    assert "ResNet" in certificate.another_network
    assert sum(len(clause.findings) for clause in certificate.clauses) == 1


@pytest.mark.parametrize("output_stride", [16, pytest.param(8, marks=pytest.mark.deep)])
def test_the_source_documents_own_classes_conform(output_stride: int, levels: tuple[Level, ...]) -> None:
    """The first subject of this project is the network that ``notebook`` says it is."""
    certificate = deeplab_spec.certify(build_document, "notebook", output_strides=[output_stride], levels=levels)

    assert [clause.id for clause in certificate.clauses if clause.verdict in OPEN] == []
    assert certificate.verdict is RunVerdict.CONFORMS


@pytest.mark.parametrize("variant", [pytest.param("notebook", marks=pytest.mark.deep), "tf-release"])
def test_the_reference_conforms_at_full_width(variant: str, levels: tuple[Level, ...]) -> None:
    """Width is a choice; the published networks have width 1. The test above judges a notebook network of it."""
    levels = levels if Level.TRAINING in levels else (Level.STRUCTURE, Level.NUMERICS)
    certificate = deeplab_spec.certify(f"reference:{variant}", levels=levels)

    assert [clause.id for clause in certificate.clauses if clause.verdict in OPEN] == []


@pytest.mark.deep
@pytest.mark.parametrize(
    ("variant", "output_stride"),
    [("notebook", 8), ("tf-release", 8), ("tf-release", 32), ("tf-release-dense", 8), ("tf-release-dense", 16)],
)
def test_the_reference_conforms_at_full_width_at_every_output_stride(variant: str, output_stride: int) -> None:
    """The other output strides, and the third variant, at full width."""
    certificate = deeplab_spec.certify(f"reference:{variant}", output_strides=[output_stride])

    assert [clause.id for clause in certificate.clauses if clause.verdict in OPEN] == []

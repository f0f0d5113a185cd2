"""Members of every family of backbones conform to themselves, and a head is judged whatever its backbone is."""

import pytest

import deeplab_spec
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import RunVerdict
from deeplab_spec.spec.clauses import Level
from deeplab_spec.spec.variants import HF_MOBILENET_V2, SMP_RESNET34, TF_MOBILENET_V2, TF_RESNET50, Variant
from tests.support.members import OTHERS

NARROW = 0.03125
GRAPH_AND_VALUES = (Level.STRUCTURE, Level.NUMERICS)


def judged(variant: Variant, levels: tuple[Level, ...] = GRAPH_AND_VALUES, **settings: object) -> Certificate:
    """Judge a narrow reference against its own variant."""
    choices = {"width": NARROW, **settings.pop("choices", {})}  # type: ignore[dict-item]
    return deeplab_spec.certify(f"reference:{variant.name}", choices=choices, levels=levels, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", [*OTHERS, HF_MOBILENET_V2], ids=lambda variant: variant.name)
def test_a_member_conforms_to_itself(variant: Variant, request: pytest.FixtureRequest) -> None:
    """In its graph and its values; in the deep run at every level."""
    levels = tuple(Level) if request.config.getoption("--deep") else GRAPH_AND_VALUES
    certificate = judged(variant, levels)

    assert [clause.id for clause in certificate.clauses if clause.findings] == []
    assert certificate.verdict is RunVerdict.CONFORMS


def test_a_second_head_is_a_second_result_by_name() -> None:
    """Of the interface, the graph and the values."""
    certificate = judged(SMP_RESNET34, (Level.INTERFACE, *GRAPH_AND_VALUES), choices={"auxiliary": "fcn"})

    assert certificate.verdict is RunVerdict.CONFORMS
    (clause,) = (clause for clause in certificate.clauses if clause.id == "AUXILIARY-HEAD")
    assert clause.decisions > 10


def head(rates: str) -> Certificate:
    """Judge pyramid and decoder of a ResNet, with some rates."""
    return deeplab_spec.certify(
        "reference:tf-resnet50",
        "tf-resnet50",
        part="head",
        choices={"width": NARROW},
        arguments={"width": NARROW, "aspp_rates": rates},
        levels=GRAPH_AND_VALUES,
    )


def test_the_head_of_any_backbone_is_judged_alone() -> None:
    """One rate that is off is refused at its branch, and named as the choice that it is."""
    assert head("6,12,18").verdict is RunVerdict.CONFORMS
    certificate = head("6,12,24")
    findings = [finding for clause in certificate.clauses for finding in clause.findings if clause.id == "ASPP-RATES"]

    assert [(finding.path, finding.attribute, finding.choice) for finding in findings] == [
        ("aspp.atrous3.depthwise.conv", "rate", "aspp_rates")
    ]


@pytest.mark.parametrize(("variant", "title"), [(TF_RESNET50, "ResNet"), (TF_MOBILENET_V2, "MobileNetV2")])
def test_a_network_of_another_family_gets_one_sentence(variant: Variant, title: str) -> None:
    """And one finding."""
    certificate = deeplab_spec.certify(
        f"reference:{variant.name}",
        "tf-release",
        choices={"width": NARROW},
        arguments={"width": NARROW},
        levels=(Level.STRUCTURE,),
    )

    assert certificate.another_network is not None
    assert f"its backbone is a {title} (" in certificate.another_network
    assert sum(len(clause.findings) for clause in certificate.clauses) == 1


def test_a_network_with_a_decoder_is_judged_against_another_architecture_without_one() -> None:
    """Its head is compared with every head, also with those that read low-level features."""
    certificate = deeplab_spec.certify(
        "reference:notebook",
        "hf-mobilenet-v2",
        choices={"width": NARROW},
        arguments={"width": NARROW, "middle_blocks": 1},
        levels=(Level.STRUCTURE,),
    )

    assert certificate.verdict is RunVerdict.DEVIATES
    assert certificate.another_network is not None

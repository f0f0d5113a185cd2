"""A part is found in a whole network, whatever its backbone is, and judged there."""

import pytest
import torch
from torch import Tensor, nn

import deeplab_spec
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.spec.clauses import Level
from deeplab_spec.spec.variants import SMP_RESNET34
from tests.support.other_backbones import NARROW, Attention, Gated, OnOther

GRAPH_AND_VALUES = (Level.STRUCTURE, Level.NUMERICS)


def judged(module: nn.Module, part: str = "head", variant: str = "tf-release", **settings: object) -> Certificate:
    """Judge a part of a whole narrow network."""
    return deeplab_spec.certify(module, variant, part=part, choices={"width": NARROW}, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("backbone", [Gated, Attention])
def test_the_release_head_conforms_on_a_backbone_of_no_family(backbone: type[nn.Module]) -> None:
    """Also where the backbone has operations that no graph knows; the report says where the head is."""
    certificate = judged(OnOther(backbone()))

    assert certificate.verdict is RunVerdict.CONFORMS
    assert certificate.found is not None
    assert certificate.found.modules == ("pyramid", "segment")
    assert certificate.levels["interface"] is certificate.levels["training"] is Verdict.NOT_APPLICABLE
    assert "the head was found in it: pyramid and segment, from encoder." in certificate.text


def test_one_rate_that_is_off_is_refused_in_the_whole_network() -> None:
    """At its branch, in the graph and in the values."""
    certificate = judged(OnOther(Gated(), aspp_rates=(6, 12, 24)), levels=GRAPH_AND_VALUES)
    found = {(finding.path, finding.choice) for clause in certificate.clauses for finding in clause.findings}

    assert certificate.verdict is RunVerdict.DEVIATES
    assert found == {("aspp.atrous3.depthwise.conv", "aspp_rates")}


@pytest.mark.parametrize("part", ["aspp", "decoder"])
def test_half_of_a_head_is_judged_in_the_whole_network(part: str) -> None:
    """With what it reads as its inputs."""
    assert judged(OnOther(Gated()), part, levels=GRAPH_AND_VALUES).verdict is RunVerdict.CONFORMS


def test_a_backbone_is_judged_in_the_whole_network() -> None:
    """One of the family conforms; another is another network in one sentence."""
    settings = {"choices": {"width": NARROW}, "part": "backbone", "levels": GRAPH_AND_VALUES}
    whole = deeplab_spec.build(SMP_RESNET34.name, choices={"width": NARROW})
    certificate = deeplab_spec.certify(whole, SMP_RESNET34.name, **settings)  # type: ignore[arg-type]

    assert certificate.verdict is RunVerdict.CONFORMS
    assert certificate.found is not None
    assert certificate.found.inputs == ("input",)
    other = judged(OnOther(Gated()), "backbone", levels=(Level.STRUCTURE,))
    assert other.another_network is not None


def test_the_head_of_another_family_is_named_by_its_network() -> None:
    """Whatever family the judged network is of."""
    certificate = judged(OnOther(Gated(), SMP_RESNET34), levels=(Level.STRUCTURE,))

    assert certificate.nearest is not None
    assert certificate.nearest.variant.startswith("smp-")


class TwoFaced(OnOther):
    """Computes something else than it shows to the exporter."""

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits; twice the logits outside of a capture."""
        logits = super().forward(image)
        return logits if torch.compiler.is_exporting() else 2 * logits


def test_a_graph_that_is_not_the_whole_networks_decides_nothing() -> None:
    """The whole network is called with the weights of the part, and must return what its graph computes."""
    certificate = judged(TwoFaced(Gated()), levels=GRAPH_AND_VALUES)

    assert certificate.verdict is RunVerdict.INCONCLUSIVE
    reasons = {clause.reason.partition(" is off by ")[0] for clause in certificate.clauses if clause.reason}
    assert "the captured graph" in reasons


def test_a_head_alone_may_read_other_channels() -> None:
    """Those of its own backbone: the specification's would not fit its kernels."""
    whole = OnOther(Gated())

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pyramid, self.segment = whole.pyramid, whole.segment

        def forward(self, features: Tensor, low_level: Tensor) -> Tensor:
            return self.segment(self.pyramid(features), low_level)

    certificate = judged(Head(), levels=(Level.INTERFACE, *GRAPH_AND_VALUES))

    assert certificate.found is None
    assert certificate.verdict is RunVerdict.CONFORMS
    assert certificate.subjects[0].channels == (40, 12)


@pytest.mark.parametrize(("rates", "verdict"), [((6, 12, 18), RunVerdict.CONFORMS), ((6, 12, 24), RunVerdict.DEVIATES)])
def test_another_architecture_gets_the_verdict_about_its_head(rates: tuple[int, ...], verdict: RunVerdict) -> None:
    """Beside the one sentence about itself."""
    certificate = deeplab_spec.certify(
        OnOther(Gated(), aspp_rates=rates), "tf-release", choices={"width": NARROW}, levels=GRAPH_AND_VALUES
    )

    assert certificate.verdict is RunVerdict.DEVIATES
    assert certificate.another_network is not None
    assert certificate.head is not None
    assert certificate.head.verdict is verdict
    assert certificate.head.choices == (("aspp_rates",) if verdict is RunVerdict.DEVIATES else ())
    assert f"Its head (pyramid and segment) {'conforms to' if not certificate.head.choices else 'deviates from'}" in (
        certificate.text.replace("\n", " ")
    )


def test_a_network_without_a_head_of_this_family_has_no_verdict_about_one() -> None:
    """Nothing in it has the structure of a pyramid."""
    certificate = deeplab_spec.certify(Gated(), "tf-release", choices={"width": NARROW}, levels=(Level.STRUCTURE,))

    assert certificate.another_network is not None
    assert certificate.head is None


def test_identify_names_the_head_of_another_architecture() -> None:
    """By the published network and the choices that it is nearest to."""
    document = deeplab_spec.identify(OnOther(Attention(), aspp_rates=(6, 12, 24)))

    assert document.nearest is None
    assert document.head is not None
    assert (document.head.nearest.variant, document.head.distance) == ("tf-release", 0)
    assert document.head.nearest.choices == {"aspp_rates": [6, 12, 24], "width": NARROW}
    assert "--part head" in document.text

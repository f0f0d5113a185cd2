"""What is wrong inside is found at its node, and explained by the choice that it is."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

import deeplab_spec
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import Finding, RunVerdict, Verdict
from deeplab_spec.judge.text import text
from tests.support.candidates import SMALL, Plain


def judged(module: nn.Module, variant: str = "tf-release", **options: object) -> Certificate:
    """Judge a module in evaluation against a narrow variant."""
    options.setdefault("levels", ["structure", "numerics"])
    return deeplab_spec.certify(module, variant, choices=SMALL, **options)  # type: ignore[arg-type]


def findings(certificate: Certificate, level: str) -> list[Finding]:
    """Return the findings of one level."""
    return [finding for clause in certificate.clauses if clause.level == level for finding in clause.findings]


@pytest.mark.parametrize(
    ("variant", "name", "value", "clause", "path"),
    [
        ("tf-release", "aspp_rates", [12, 24, 36], "ASPP-RATES", "aspp.atrous1.depthwise.conv"),
        pytest.param(
            "tf-release", "unstrided_rate", "double_last", "XCEPTION-UNSTRIDED-RATE", None, marks=pytest.mark.deep
        ),
        pytest.param("tf-release", "skip_reads", "activated_input", "SKIP-INPUT", None, marks=pytest.mark.deep),
        pytest.param(
            "tf-release", "low_level_tap", "block1", "LOW-LEVEL-TAP", "decoder.low_level.conv", marks=pytest.mark.deep
        ),
        pytest.param(
            "tf-release", "exit2_input", "activated_sum", "XCEPTION-ACTIVATIONS", None, marks=pytest.mark.deep
        ),
        pytest.param(
            "tf-release", "output_resize", "half_pixel", "OUTPUT-RESIZE", "output.resize", marks=pytest.mark.deep
        ),
        pytest.param("notebook", "pool_norm", "norm", "ASPP-POOL", "aspp.pool.conv", marks=pytest.mark.deep),
        ("notebook", "stride_padding", "same", "XCEPTION-PADDING", None),
        pytest.param(
            "notebook",
            "backbone_norm_eps",
            1e-5,
            "BACKBONE-NORM-EPS",
            "backbone.entry_flow.stem.conv1.norm",
            marks=pytest.mark.deep,
        ),
    ],
)
def test_a_wrong_choice_is_named(variant: str, name: str, value: object, clause: str, path: str | None) -> None:
    """The only decision that differs is the one that the certificate names."""
    module = deeplab_spec.build(variant, choices={**SMALL, name: value})  # type: ignore[dict-item]

    certificate = judged(module, variant)

    assert certificate.verdict is RunVerdict.DEVIATES
    assert certificate.nearest is not None
    assert certificate.nearest.variant == variant
    assert certificate.nearest.choices == {**SMALL, name: value}
    assert {finding.choice for finding in findings(certificate, "structure")} == {name}
    failed = {record.id for record in certificate.clauses if record.verdict is Verdict.FAILED}
    assert clause in failed
    assert findings(certificate, "numerics"), "the values show it too"
    if path is not None:
        assert certificate.first_divergence is not None
        assert certificate.first_divergence.path == path


def test_a_published_network_is_recognised_although_another_was_requested() -> None:
    """The nearest network is the plain one, not the requested one with its overrides reverted."""
    module = deeplab_spec.build("tf-release", choices=SMALL)

    certificate = deeplab_spec.certify(
        module, "tf-release", choices={**SMALL, "middle_blocks": 4, "aspp_convs": "dense"}, levels=["structure"]
    )

    assert certificate.nearest is not None
    assert (certificate.nearest.variant, certificate.nearest.choices) == ("tf-release", SMALL)
    assert "aspp_convs" in {finding.choice for finding in findings(certificate, "structure")}


def test_numerics_find_only_where_structure_finds() -> None:
    """Each step runs on the specification's own values, so a fault does not spread."""
    module = deeplab_spec.build("tf-release", choices={**SMALL, "aspp_depthwise": "bare", "head_norm_eps": 1e-3})

    certificate = judged(module)

    structural = {finding.path for finding in findings(certificate, "structure")}
    assert {finding.path for finding in findings(certificate, "numerics")} <= structural


def _scale(module: nn.Module) -> None:
    class Scaled(nn.Conv2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - the framework's name
            return super().forward(input) * 1.0001

    conv = module.get_submodule("decoder.logits.conv")
    conv.__class__ = Scaled


def _leak(module: nn.Module) -> None:
    module.get_submodule("aspp.projection").activation = nn.LeakyReLU(0.01)


def _clip(module: nn.Module) -> None:
    module.get_submodule("backbone.middle_flow.block2.sepconv2").activation = nn.ReLU6()


def _forget(module: nn.Module) -> None:
    module.get_submodule("aspp.conv1x1").norm = nn.Identity()


@pytest.mark.parametrize(
    ("fault", "path"),
    [
        pytest.param(_scale, "decoder.logits.conv", marks=pytest.mark.deep),
        pytest.param(_leak, "aspp.projection.activation", marks=pytest.mark.deep),
        (_clip, "backbone.middle_flow.block2.sepconv2.activation"),
        pytest.param(_forget, "aspp.conv1x1.norm", marks=pytest.mark.deep),
    ],
)
def test_a_fault_that_is_no_choice_is_found_at_its_node(fault: Callable[[nn.Module], None], path: str) -> None:
    """The first difference is where the fault was planted, and no choice explains it."""
    module = deeplab_spec.build("tf-release", choices=SMALL)
    fault(module)

    certificate = judged(module)

    assert certificate.verdict is RunVerdict.DEVIATES
    assert certificate.first_divergence is not None
    assert certificate.first_divergence.path == path
    assert all(finding.choice is None for finding in findings(certificate, "structure"))


def test_a_fault_of_values_only_is_found_by_numerics_only() -> None:
    """A parametrised weight looks right in every number of the graph but one: what it computes."""
    module = deeplab_spec.build("tf-release", choices=SMALL)
    _scale(module)

    certificate = judged(module, levels=["numerics"])

    assert certificate.levels == {"numerics": Verdict.FAILED}


def test_blocks_that_share_their_weights_are_found_by_their_counts() -> None:
    """No operation shows it: the graph is right, and every block computes what it must."""
    module = deeplab_spec.build("tf-release", choices=SMALL)
    middle = module.get_submodule("backbone.middle_flow")
    middle.block2 = middle.block1

    certificate = judged(module, levels=["structure"])

    failed = [record for record in certificate.clauses if record.verdict is Verdict.FAILED]
    assert [record.id for record in failed] == ["BLOCK-COUNTS"]
    assert {finding.attribute for finding in failed[0].findings} == {"parameters"}
    assert certificate.first_divergence is not None
    assert certificate.first_divergence.path.startswith("backbone.middle_flow.block2.")
    assert [block.path for block in certificate.counts[0].differing] == ["backbone.middle_flow.block2"]
    assert "backbone.middle_flow.block2" in text(certificate)


def test_cost_moved_between_blocks_is_refused_though_the_totals_are_equal() -> None:
    """One block gives taps of its kernels to another: every total stays."""
    right = deeplab_spec.build("tf-release", choices=SMALL)
    module = deeplab_spec.build("tf-release", choices=SMALL)
    kernels = {"block1": (3, 1), "block2": (3, 5)}
    for name, kernel in kernels.items():
        conv = module.get_submodule(f"backbone.middle_flow.{name}.sepconv2.depthwise").conv
        conv.weight = nn.Parameter(torch.randn(*conv.weight.shape[:2], *kernel))
        conv.kernel_size, conv.padding = kernel, (1, kernel[1] // 2)

    certificate = judged(module, levels=["structure"])
    counts = certificate.counts[0]

    assert sum(p.numel() for p in module.parameters()) == sum(p.numel() for p in right.parameters())
    assert certificate.verdict is RunVerdict.DEVIATES
    assert counts.parameters[0] == counts.parameters[1]
    assert counts.macs[0] == counts.macs[1]
    assert [block.path.rpartition(".")[2] for block in counts.differing] == ["block1", "block2"]
    found = {finding.path.split(".")[2] for finding in findings(certificate, "structure")}
    assert found == {"block1", "block2"}


def test_a_judged_module_is_left_as_it_was() -> None:
    """The judge loads weights of its own into a copy."""
    module = deeplab_spec.build("notebook", choices=SMALL)
    before = copy.deepcopy(module.state_dict())

    judged(module, "notebook", levels=["numerics"])

    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)


def test_a_row_of_convolutions_is_another_network() -> None:
    """It has no decoder and no depthwise convolution, and the report says just that."""
    certificate = deeplab_spec.certify(Plain(), "notebook")

    assert certificate.verdict is RunVerdict.DEVIATES
    assert certificate.nearest is None
    assert sum(len(clause.findings) for clause in certificate.clauses) == 1
    report = " ".join(text(certificate).split())
    assert "this is another network: it has no decoder" in report
    assert "no depthwise convolution" in report

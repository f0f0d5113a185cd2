"""A port with the usual mistakes is refused for just those, and for one that no count can see."""

from collections import Counter
from functools import cache, partial

import pytest
import torch
from torch import nn

import deeplab_spec
from deeplab_spec.align.differences import Fact, differences
from deeplab_spec.align.lock import Lock, NearestNetwork, canonical_lock
from deeplab_spec.align.lock_file import read as read_lock
from deeplab_spec.align.lock_file import text
from deeplab_spec.align.match import align
from deeplab_spec.analysis.conventions import CONVENTIONS
from deeplab_spec.analysis.costs import Cost, node_costs, total_cost
from deeplab_spec.analysis.terms import Mode, total_stored
from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.fx.module import capture
from deeplab_spec.graph.ops import BatchNorm
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.spec.network import network
from deeplab_spec.spec.variants import TF_RELEASE_DENSE
from tests.support import tf_release_port as ports
from tests.support.candidates import WIDTH
from tests.support.graphs import normal, normal_capture
from tests.support.strategies import NARROW, narrow
from tests.support.tf_release_port import Mistakes
from tests.support.weights import make_whole, whole

Places = set[tuple[str, str]]

SIZE = (97, 65)
"""A size at which the corrupted skip is seen; rates need a larger one."""

ENTRY3 = "backbone.entry_flow.block3"
EXIT1 = "backbone.exit_flow.block1"
CORRUPTED = {(f"{ENTRY3}.skip.conv", "inputs"), (f"{EXIT1}.skip.conv", "inputs")} | {
    (f"backbone.middle_flow.block{number}.add", "inputs") for number in range(1, 17)
}
EXTRA_RELU = {(f"{EXIT1}.add", "node")}
TAP = {("decoder.low_level.conv", "inputs")}
LOST = {(f"{EXIT1}.sepconv3.depthwise.conv", "rate")}
EPS = {
    (node.path, "eps")
    for node in network(TF_RELEASE_DENSE.choices, 16, 21)
    if isinstance(node.op, BatchNorm) and node.path.startswith("backbone.")
}
CHOICES = {
    "skip_reads": CORRUPTED,
    "exit2_input": EXTRA_RELU,
    "low_level_tap": TAP,
    "backbone_norm_eps": EPS,
}
DECISIONS = {
    "width": WIDTH,
    "skip_reads": "activated_input",
    "exit2_input": "activated_sum",
    "low_level_tap": "block1",
    "backbone_norm_eps": 1e-5,
}


def judged(build: object, output_stride: int, **options: object) -> Certificate:
    """Hold a narrow port against the release with dense convolutions."""
    return deeplab_spec.certify(
        partial(build, width=WIDTH),  # type: ignore[arg-type]
        "tf-release-dense",
        choices={"width": WIDTH},
        output_strides=[output_stride],
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("output_stride", [pytest.param(16, marks=pytest.mark.deep), 8])
def test_a_right_port_conforms_in_evaluation_and_is_refused_in_training(output_stride: int) -> None:
    """Its names, nesting and padding are its own, and so is the order of the pyramid.

    What it drops out, and the framework's momentum and initialisation, show in training only: there nothing else
    is found, its running statistics and its SGD step are the specification's.
    """
    certificate = judged(ports.build_right, output_stride)

    assert [clause.id for clause in certificate.clauses if clause.verdict is Verdict.UNDECIDED] == []
    failed = {clause.id: clause.findings for clause in certificate.clauses if clause.verdict is Verdict.FAILED}
    assert set(failed) == {"BN-MOMENTUM", "DROPOUT", "INITIALISATION"}
    norms = [node.path for node in network(narrow(TF_RELEASE_DENSE), 16, 21) if isinstance(node.op, BatchNorm)]
    assert [finding.path for finding in failed["BN-MOMENTUM"]] == norms
    assert {(finding.path, finding.actual, finding.choice) for finding in failed["DROPOUT"]} == {
        ("aspp.dropout", 0.5, "aspp_dropout"),
        ("decoder.conv1.activation", "dropout at rate 0.5", "decoder_dropout"),
        ("decoder.conv2.activation", "dropout at rate 0.1", "decoder_dropout"),
    }
    assert {finding.choice for finding in failed["INITIALISATION"]} == {"init"}
    assert certificate.nearest is not None
    assert certificate.nearest.choices == {
        "width": WIDTH,
        "norm_momentum": 0.1,
        "aspp_dropout": 0.5,
        "decoder_dropout": [0.5, 0.1],
        "init": "framework_default",
    }


@pytest.mark.parametrize(
    ("output_stride", "more", "decisions"),
    [
        pytest.param(16, {}, {}, marks=pytest.mark.deep),
        (8, {"unstrided_rate": LOST}, {"unstrided_rate": "lost_last"}),
    ],
)
def test_a_port_is_refused_for_its_mistakes_only(
    output_stride: int, more: dict[str, Places], decisions: dict[str, str]
) -> None:
    """Each at its nodes, each explained by the decision that it is: the lost dilation where there is one to lose."""
    certificate = judged(ports.build, output_stride, levels=["structure"])

    found = [finding for clause in certificate.clauses for finding in clause.findings]
    by_choice: dict[str | None, Places] = {}
    for finding in found:
        by_choice.setdefault(finding.choice, set()).add((finding.path, finding.attribute))
    assert by_choice == {**CHOICES, **more}
    assert len(found) == sum(map(len, by_choice.values()))
    assert certificate.verdict is RunVerdict.DEVIATES
    assert certificate.nearest is not None
    assert certificate.nearest.variant == "tf-release-dense"
    assert certificate.nearest.choices == {**DECISIONS, **decisions}


@cache
def read(mistakes: Mistakes) -> Capture:
    """Read the graph of a narrow port with some mistakes."""
    return capture(ports.build(16, 21, NARROW, mistakes), (torch.zeros(1, 3, *SIZE),))


def places(mistakes: Mistakes) -> dict[tuple[str, str], Fact]:
    """Return where a narrow port with some mistakes differs, and what is there."""
    expected = normal(network(narrow(TF_RELEASE_DENSE), 16, 21), SIZE)
    alignment = align(expected, normal_capture(read(mistakes)))
    return {(aspect.path, aspect.attribute): aspect.actual for aspect in differences(alignment)}


ONLY_THE_SKIP = Mistakes(in_place_from=3)


def test_no_count_sees_the_corrupted_skip() -> None:
    """The same operations on values of the same shapes: no parameter and no FLOP more or less, by any convention."""
    right, wrong = read(Mistakes()), read(ONLY_THE_SKIP)

    assert total_stored(right.network) == total_stored(wrong.network)
    for convention in CONVENTIONS:
        for mode in convention.modes:
            costs, others = (
                node_costs(
                    captured.network, {path: shape[1:] for path, shape in captured.shapes.items()}, convention, mode
                )
                for captured in (right, wrong)
            )
            total, other = total_cost(costs), total_cost(others)
            assert (other.sizes, other.operations, other.once, other.flops) == (
                total.sizes,
                total.operations,
                total.once,
                total.flops,
            ), (convention.name, mode)
            assert total.operations > 0
            if mode is Mode.FORWARD:
                assert _by_node(costs) == _by_node(others), convention.name


def _by_node(costs: tuple[Cost, ...]) -> Counter[object]:
    return Counter((cost.sizes, cost.operations, cost.flops, cost.output) for cost in costs)


def test_the_corrupted_skip_is_found_at_every_block_that_has_it() -> None:
    """By the inputs of the skips, and by the values of the port, which no order of sums could explain."""
    assert set(places(ONLY_THE_SKIP)) == CORRUPTED
    assert places(Mistakes()) == {}

    right, wrong = (make_whole(ports.build(16, 21, NARROW, mistakes), 1) for mistakes in (Mistakes(), ONLY_THE_SKIP))
    image = whole((1, 3, *SIZE), 0)
    with torch.no_grad():
        computed, corrupted = right(image.clone()), wrong(image.clone())
    assert float(torch.dist(corrupted, computed) / torch.linalg.vector_norm(computed)) > 1e-6


def test_an_overwritten_block_input_is_overwritten_for_the_decoder_too() -> None:
    """Had the second block begun in place too, the decoder would read what its ReLU left of the tap."""
    found = places(Mistakes(in_place_from=2, tap_of_block1=True))

    assert set(found) == {("backbone.entry_flow.block2.skip.conv", "inputs"), *CORRUPTED, *TAP}
    assert found["decoder.low_level.conv", "inputs"] == ("backbone.entry_flow.block2.sepconv1.activation",)


@pytest.mark.parametrize(
    ("build", "parameters", "operations"),
    [(ports.build, 54_705_317, 86_576_993_984), (ports.build_right, 54_711_461, 86_679_236_288)],
    ids=["usual mistakes", "right"],
)
def test_a_port_of_full_size_has_the_counted_costs(build: object, parameters: int, operations: int) -> None:
    """Parameters and multiply-adds at 513x513, on no memory."""
    with torch.device("meta"):
        module = build(16, 21).eval()  # type: ignore[operator]
    counted: list[int] = []

    def count(conv: nn.Conv2d, _: object, value: torch.Tensor) -> None:
        counted.append(conv.weight.numel() * value.shape[2] * value.shape[3])

    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            conv.register_forward_hook(count)
    module(torch.zeros(1, 3, 513, 513, device="meta"))

    assert sum(parameter.numel() for parameter in module.parameters()) == parameters
    assert sum(counted) == operations


def test_the_lock_of_a_port_names_its_nodes_as_the_release_does() -> None:
    """Whatever the port calls its modules; what the release has not is called by its operator, in its block."""
    expected = normal(network(narrow(TF_RELEASE_DENSE), 16, 21), SIZE)
    form = normal_capture(read(ports.USUAL))
    lock = Lock(
        target="tests.support.tf_release_port:build",
        output_stride=16,
        classes=21,
        image=SIZE,
        normal=form,
        nearest=NearestNetwork(variant="tf-release-dense", choices={"low_level_tap": "block1"}),
    )
    found = canonical_lock(lock, align(expected, form))
    content = text(found)

    paths = {node.path for node in found.normal.network}
    assert paths - {node.path for node in expected.network} == {f"{EXIT1}.extra.activation"}
    assert differences(align(form, read_lock(content, "port.lock").normal)) == ()
    assert differences(align(read_lock(content, "port.lock").normal, normal_capture(read(Mistakes()))))
    assert not any(name in content for name in ("layers", "bn1", "low_level_feat", "aspp4"))

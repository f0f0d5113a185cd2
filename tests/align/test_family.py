"""The family of a backbone is told from its layers, before anything is aligned."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.align.differences import differences, nearer_alignment
from deeplab_spec.align.family import family_of
from deeplab_spec.align.match import Alignment, align, align_through
from deeplab_spec.align.published import different_architecture
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, ActivationKind, BatchNorm, Conv2d, Input, Output, Pool, PoolKind, margins
from deeplab_spec.spec.network import graph, network, part, rows
from deeplab_spec.spec.variants import (
    NOTEBOOK,
    SMP_RESNET34,
    TF_MOBILENET_V2,
    TF_RELEASE,
    TF_RELEASE_DENSE,
    TF_RESNET50,
    VARIANTS,
    Variant,
)
from tests.support.graphs import narrow_normal
from tests.support.members import XCEPTIONS
from tests.support.strategies import cases

EVERY = pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)


@EVERY
def test_every_published_network_is_of_its_family(variant: Variant) -> None:
    """At every output stride."""
    for output_stride in variant.output_strides:
        assert family_of(network(variant.choices, output_stride)) == variant.family.family


@EVERY
@pytest.mark.parametrize("name", ["aspp", "decoder", "head"])
def test_a_head_has_no_family(variant: Variant, name: str) -> None:
    """Its features may be those of any backbone."""
    assert family_of(part(rows(variant.choices, variant.output_strides[0], 21), name)) == ""


@pytest.mark.parametrize(
    ("variant", "kind"),
    [(TF_MOBILENET_V2, ActivationKind.RELU), (TF_RELEASE, ActivationKind.RELU6), (TF_RESNET50, ActivationKind.SILU)],
    ids=["mobilenet", "xception", "resnet"],
)
def test_other_activations_make_no_other_family(variant: Variant, kind: ActivationKind) -> None:
    """The layers tell more than the functions between them."""
    original = network(variant.choices)
    nodes = (replace(node, op=Activation(kind=kind)) if isinstance(node.op, Activation) else node for node in original)

    assert family_of(original.with_nodes(nodes)) == variant.family.family


def test_a_chain_of_convolutions_is_of_no_family() -> None:
    """Like a VGG: dense 3x3 convolutions and max pooling, without a sum."""
    nodes = [Node(path="image", op=Input(channels=3), inputs=())]
    channels = 3
    for number in range(13):
        conv = Conv2d(channels_in=channels, channels_out=8, kernel=(3, 3), padding=margins(1))
        ops = [conv, BatchNorm(channels=8, eps=1e-5, momentum=0.1), Activation()]
        ops += [Pool(kind=PoolKind.MAX, kernel=(2, 2), stride=(2, 2))] if number % 4 == 3 else []
        for op in ops:
            nodes.append(Node(path=f"node{len(nodes)}", op=op, inputs=(nodes[-1].path,)))
        channels = 8
    nodes.append(Node(path="end", op=Output(name="logits"), inputs=(nodes[-1].path,)))

    assert family_of(Network(nodes=tuple(nodes))) == ""


@pytest.mark.parametrize("expected", [NOTEBOOK, TF_RESNET50, TF_MOBILENET_V2], ids=lambda variant: variant.name)
@pytest.mark.parametrize("actual", [TF_RELEASE, SMP_RESNET34, TF_MOBILENET_V2], ids=lambda variant: variant.name)
def test_a_network_of_another_family_is_named_in_one_sentence(expected: Variant, actual: Variant) -> None:
    """With what tells them apart; a network of the same family is none."""
    mine, yours = (narrow_normal(variant.choices, 16, (65, 66)) for variant in (expected, actual))
    text = different_architecture(align(mine, yours))

    if expected.family is actual.family:
        assert text is None or "its backbone" not in text
    else:
        assert text is not None
        assert f"its backbone is a {actual.family.title} (" in text
        assert f"must be of the family of {expected.family.title}" in text


def test_graphs_of_variants_can_be_compared_by_their_rows() -> None:
    """The family is that of the graph, however it was built."""
    assert family_of(graph(rows(SMP_RESNET34.choices, 8, 5))) == "resnet"


def test_a_dense_pyramid_is_compared_branch_by_branch_with_a_separable_one() -> None:
    """By way of the nearest network; the direct alignment takes the third branch for the 1x1 branch."""
    separable, dense = (narrow_normal(variant.choices, 16) for variant in (TF_RELEASE, TF_RELEASE_DENSE))
    direct = align(separable, dense)
    nearer = nearer_alignment(direct, dense)

    def wrong(alignment: Alignment) -> set[tuple[str, str | None]]:
        found = differences(alignment)
        return {(each.path, each.candidate_path) for each in found if each.attribute == "kernel"}

    assert ("aspp.conv1x1.conv", "aspp.atrous3.conv") in wrong(direct)
    branches = {(f"aspp.atrous{number}.pointwise.conv", f"aspp.atrous{number}.conv") for number in (1, 2, 3)}
    refined = {(f"decoder.conv{number}.pointwise.conv", f"decoder.conv{number}.conv") for number in (1, 2)}
    assert wrong(nearer) == branches | refined
    assert sorted(filter(None, (left for left, _ in nearer.pairs))) == sorted(node.path for node in separable.network)
    assert sorted(filter(None, (right for _, right in nearer.pairs))) == sorted(node.path for node in dense.network)


@given(case=cases(), other=st.sampled_from(XCEPTIONS))
def test_by_way_of_any_network_every_node_is_in_the_alignment_once(case: tuple[Variant, int], other: Variant) -> None:
    """On both sides."""
    expected = narrow_normal(case[0].choices, case[1])
    nearest, candidate = narrow_normal(other.choices, case[1]), narrow_normal(TF_RELEASE.choices, case[1])
    found = align_through(expected, nearest, candidate)

    assert sorted(filter(None, (left for left, _ in found.pairs))) == sorted(node.path for node in expected.network)
    assert sorted(filter(None, (right for _, right in found.pairs))) == sorted(node.path for node in candidate.network)

"""A lock is the network that it was made of, whatever names it was written with, and says so in few lines."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.align.canonical import canonical
from deeplab_spec.align.differences import differences
from deeplab_spec.align.lock import Answer, Lock, NearestNetwork, Result, lock
from deeplab_spec.align.lock_file import read, text
from deeplab_spec.align.match import Alignment, align
from deeplab_spec.align.network_at_size import Shaped, shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import margins
from deeplab_spec.mutate.faults.graph_edits import inserted, renamed, with_op
from deeplab_spec.spec.network import network
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE, VARIANTS, Variant
from tests.align.test_order import reordered, shufflers
from tests.support.drawn import any_networks
from tests.support.graphs import TELLING, narrow_network, narrow_normal, normal
from tests.support.strategies import cases

ANSWERS = (
    Answer(
        inputs=((2, 3, 64, 96),),
        dtype="float32",
        results=(Result(tap="logits", shape=(2, 5, 64, 96), dtype="float32"),),
    ),
    Answer(inputs=((1, 3, 33, 50), (1, 1, 1)), dtype="float64"),
)
NEAREST = NearestNetwork(
    variant="tf-release", choices={"middle_blocks": 2, "aspp_rates": (12, 24, 36), "decoder_dropout": ()}, unexplained=3
)


def locked(
    graph: Network | Shaped, alignment: Alignment | None = None, nearest: NearestNetwork | None = NEAREST
) -> Lock:
    """Lock a graph at the usual size."""
    return lock(
        graph if isinstance(graph, Shaped) else normal(graph),
        target="somebody:build",
        output_stride=16,
        classes=5,
        image=TELLING,
        alignment=alignment,
        nearest=nearest,
        answers=ANSWERS,
    )


def short(variant: Variant, output_stride: int = 16) -> Network:
    """Return the graph of a variant with few middle blocks."""
    return narrow_network(replace(variant.choices, middle_blocks=2), output_stride)


def lines(found: Lock) -> list[str]:
    """Return the lines of a lock's file."""
    return text(found).split("\n")


@given(case=cases(), family=st.booleans())
def test_a_lock_is_read_as_it_was_written(case: tuple[Variant, int], family: bool) -> None:  # noqa: FBT001 - drawn
    """Every fact, so that it can be compared and executed again."""
    form = normal(short(*case))
    found = locked(form, align(form, form) if family else None)

    assert read(text(found), "a.lock") == found
    assert read(text(found).replace("\n", "\r\n"), "a.lock") == found, "as some checkouts end lines"
    assert differences(align(form, found.normal)) == ()
    assert len(found.normal.network) == len(form.network)


@given(graph=any_networks(), data=st.data())
def test_any_graph_has_a_lock_with_every_name_once(graph: Network, data: st.DataObject) -> None:
    """Also one that is of no family, with operations that nobody knows."""
    graph = graph.live()
    shapes = {node.path: data.draw(st.sampled_from([(), (1, 2, 3)]), label="shape") for node in graph}
    form = canonical(Shaped(network=graph, shapes=shapes))

    assert len(form.network) == len(graph)
    assert [name for name, _ in form.network.taps] == sorted(name for name, _ in graph.taps)
    assert sorted(repr(node.op) for node in form.network) == sorted(repr(node.op) for node in graph)


@given(case=cases(), shuffler=shufflers, family=st.booleans())
def test_names_and_order_of_definition_change_no_line(
    case: tuple[Variant, int],
    shuffler: random.Random,
    family: bool,  # noqa: FBT001 - drawn
) -> None:
    """Somebody who renames attributes, or nests modules otherwise, gets the same file."""
    graph = short(*case)
    numbers = shuffler.sample(range(1000), len(graph))
    names = {node.path: f"m{number}" for node, number in zip(graph, numbers, strict=True)}
    other = normal(renamed(reordered(graph, shuffler), names.__getitem__))
    form = normal(graph)

    first = locked(form, align(form, form) if family else None)
    second = locked(other, align(form, other) if family else None)
    assert text(second) == text(first)


def test_nodes_have_the_specifications_paths() -> None:
    """In a network of the family; what it has beyond them is called by its operator, in its block."""
    graph = short(TF_RELEASE)
    twice = inserted(inserted(graph, "aspp.projection.activation", path="a"), "decoder.conv1.pointwise.conv", path="b")
    form = normal(renamed(twice, "m.{}".format))
    tanh = normal(renamed(with_op(graph, "aspp.projection.activation", kind="tanh"), "m.{}".format))
    found = locked(form, align(normal(graph), form))

    extra = {node.path for node in found.normal.network} - {node.path for node in graph}
    assert extra == {"decoder.conv1.extra.activation"}, "a second ReLU changes nothing"
    assert "aspp.projection.activation" in locked(tanh, align(normal(graph), tanh)).normal.network


def test_other_networks_count_joints_and_convolutions() -> None:
    """A layer more renames nothing after the next joint."""
    graph = short(NOTEBOOK)
    longer = inserted(graph, "backbone.middle_flow.block1.sepconv1.pointwise.conv")
    paths = [node.path for node in locked(graph).normal.network]
    more = [node.path for node in locked(longer).normal.network]

    assert paths[:4] == ["input", "part1.unit1.conv", "part1.unit1.norm", "part1.unit1.activation"]
    assert len(set(more) - set(paths)) == 1
    assert not set(paths) - set(more)


def test_a_wrong_rate_changes_its_own_line() -> None:
    """And the facts of the header that follow, and the digest: the diff is what a reviewer must know."""
    graph = narrow_network(TF_RELEASE.choices, 16)
    other = with_op(graph, "aspp.atrous2.depthwise.conv", rate=(13, 13), padding=margins(13))
    form = normal(graph)
    before = lines(locked(graph, align(form, form), NearestNetwork(variant="tf-release")))
    after = lines(locked(other, align(form, normal(other)), NearestNetwork(variant="tf-release", unexplained=1)))

    assert len(before) == len(after)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [old.partition("=")[0].partition(":")[0] for old, _ in changed] == [
        "unexplained",
        "aspp.atrous2.depthwise.conv ",
        "digest sha256",
    ]
    assert "rate=12x12, padding=12,12,12,12, groups=64" in changed[1][0]
    assert "rate=13x13, padding=13,13,13,13, groups=64" in changed[1][1]


def test_a_removed_layer_changes_few_lines() -> None:
    """Its own, and that of what reads it."""
    graph = short(TF_RELEASE)
    form = normal(graph)
    other = normal(inserted(graph, "decoder.conv1.pointwise.conv", path="b"))
    before, after = (lines(locked(found, align(form, found))) for found in (form, other))

    new = [line for line in after if line not in before]
    assert [line.partition(" ")[0] for line in new] == [
        "decoder.conv1.extra.activation",
        "decoder.conv1.pointwise.norm",
        "digest",
    ]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_the_lock_of_a_published_network_is_small_and_says_what_it_costs(variant: Variant) -> None:
    """At full width and depth."""
    form = normal_form(shaped(network(variant.choices, 16, 21), (513, 513)))
    found = lock(form, target="reference", output_stride=16, classes=21, image=(513, 513), alignment=align(form, form))
    content = text(found)

    published = {
        "notebook": ("53,559,805", "65,972,773,424"),
        "tf-release": ("41,055,413", "54,035,303,024"),
        "tf-release-dense": ("54,711,461", "86,679,236,288"),
    }
    parameters, operations = published[variant.name]
    assert f"\nparameters: {parameters}\nmultiply-adds: {operations}\nnearest: none\n" in content
    assert len(content.encode()) < 100_000
    assert content.isascii()
    assert sum(block.parameters for block in found.blocks) == found.parameters
    assert sum(block.multiply_adds for block in found.blocks) == found.multiply_adds


def test_parameters_that_nodes_share_are_counted_once() -> None:
    """The node that has them from another says so."""
    form = narrow_normal(replace(TF_RELEASE.choices, middle_blocks=2), 16)
    path = "aspp.atrous3.pointwise.conv"
    found = lock(
        form, target="a", output_stride=16, classes=5, image=TELLING, alignment=align(form, form), shared=[path, "gone"]
    )

    assert found.shared == {path}
    assert found.parameters == locked(form).parameters - 64 * 8
    assert [line.partition(" ")[0] for line in lines(found) if line.endswith(" shared")] == [path]
    assert read(text(found), "a.lock") == found


def test_the_top_of_a_lock_is_for_its_reader() -> None:
    """One fact a line; choices as the command line takes them."""
    found = lines(locked(short(TF_RELEASE)))

    assert found[:2] == [
        "deeplab-spec lock, schema 1",
        "Made by `deeplab-spec lock`; judged against by `deeplab-spec certify TARGET --against FILE`. Not edited.",
    ]
    assert found[3:7] == ["target: somebody:build", "output stride: 16", "classes: 5", "image: 289x300"]
    assert found[9:18] == [
        "nearest: tf-release",
        "choice: middle_blocks=2",
        "choice: aspp_rates=12,24,36",
        "choice: decoder_dropout=",
        "unexplained: 3",
        "",
        "# inputs",
        "2x3x64x96 float32 -> logits 2x5x64x96 float32",
        "1x3x33x50, 1x1x1 float64 -> refused",
    ]
    assert found[-2].startswith("digest sha256:")
    assert found[-1] == ""

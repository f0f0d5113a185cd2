"""A lock file holds the whole network, under names that do not depend on how it was written, in few lines."""

import json
import math
import random
from dataclasses import fields, replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.align.canonical import canonical
from deeplab_spec.align.differences import differences
from deeplab_spec.align.lock import Lock, NearestNetwork, Response, Result, canonical_lock
from deeplab_spec.align.lock_file import read, text
from deeplab_spec.align.match import Alignment, align
from deeplab_spec.align.network_at_size import Shaped, shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Add, BatchNorm, Input, Multiply, Op, Output, Resize, margins
from deeplab_spec.mutate.mutant import inserted
from deeplab_spec.spec.network import network
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE, Variant
from tests.align.test_order import reordered, shufflers
from tests.support.graphs import TELLING, narrow_network, narrow_normal, normal, renamed, with_op
from tests.support.members import XCEPTIONS
from tests.support.strategies import any_networks, cases, operator

RESPONSES = (
    Response(
        inputs=((2, 3, 64, 96),),
        dtype="float32",
        results=(Result(tap="logits", shape=(2, 5, 64, 96), dtype="float32"),),
    ),
    Response(inputs=((1, 3, 33, 50), (1, 1, 1)), dtype="float64", results=()),
)
NEAREST = NearestNetwork(
    variant="tf-release", choices={"middle_blocks": 2, "aspp_rates": (12, 24, 36), "decoder_dropout": ()}, unexplained=3
)


def locked(
    graph: Network | Shaped,
    alignment: Alignment | None = None,
    nearest: NearestNetwork | None = NEAREST,
    shared: tuple[str, ...] = (),
) -> Lock:
    """Lock a graph at the usual size."""
    lock = Lock(
        target="my_model:build",
        output_stride=16,
        classes=5,
        image=TELLING,
        normal=graph if isinstance(graph, Shaped) else normal(graph),
        nearest=nearest,
        responses=RESPONSES,
    )
    return canonical_lock(lock, alignment, shared)


def short(variant: Variant, output_stride: int = 16) -> Network:
    """Return the graph of a variant with few middle blocks."""
    return narrow_network(replace(variant.choices, middle_blocks=2), output_stride)


def records(lock: Lock) -> list[dict[str, Any]]:
    """Return the records of a lock's file, line by line."""
    return [json.loads(line) for line in text(lock).splitlines()]


@given(case=cases(), family=st.booleans())
def test_a_lock_is_read_as_it_was_written(case: tuple[Variant, int], family: bool) -> None:  # noqa: FBT001 - drawn
    """Every fact, so that the network can be compared and executed."""
    form = normal(short(*case))
    found = locked(form, align(form, form) if family else None)

    assert read(text(found), "a.lock") == found
    assert read(text(found).replace("\n", "\r\n"), "a.lock") == found, "as some checkouts end lines"
    assert differences(align(form, found.normal)) == ()
    assert len(found.normal.network) == len(form.network)


@pytest.mark.parametrize("kind", get_args(Op), ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_operator_is_read_with_every_field(kind: type[Op], data: st.DataObject) -> None:
    """One line of plain characters; the values of the fields keep their types."""
    op = data.draw(operator(kind), label="operator")
    two = kind in {Add, Multiply} or (isinstance(op, Resize) and op.size is None)
    nodes = (
        Node(path="x", op=Input(channels=1)),
        Node(path="a", op=op, inputs=() if kind is Input else ("x",) * (1 + two)),
        Node(path="y", op=Output(name=""), inputs=("a",)),
    )
    shape = (op.channels, *TELLING) if isinstance(op, Input) else ()
    form = Shaped(network=Network(nodes=nodes), shapes={"x": (1, *TELLING), "a": shape, "y": ()})
    lock = Lock(target="a", output_stride=16, classes=5, image=TELLING, normal=form)
    content = text(lock)

    found = read(content, "a.lock")
    assert found == lock
    assert text(found) == content
    assert content.isascii()
    actual = found.normal.network["a"].op
    assert all(type(getattr(actual, field.name)) is type(getattr(op, field.name)) for field in fields(kind))


def test_numbers_that_are_not_finite_are_read_again() -> None:
    """A network with such numbers has a lock with them."""
    form = normal(short(TF_RELEASE))
    odd = BatchNorm(channels=4, eps=math.inf, momentum=math.nan)
    nodes = [replace(node, op=odd) if node.path.endswith("stem.conv1.norm") else node for node in form.network]
    content = text(locked(form.with_network(form.network.with_nodes(nodes))))

    assert '"eps": Infinity, "momentum": NaN' in content
    assert text(read(content, "a.lock")) == content


@given(graph=any_networks(), data=st.data())
def test_any_graph_has_a_lock_with_every_name_once(graph: Network, data: st.DataObject) -> None:
    """Also a different architecture with unknown operations."""
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
    """Other attribute names, or another nesting of modules, give the same file."""
    graph = short(*case)
    numbers = shuffler.sample(range(1000), len(graph))
    names = {node.path: f"m{number}" for node, number in zip(graph, numbers, strict=True)}
    other = normal(renamed(reordered(graph, shuffler), names.__getitem__))
    form = normal(graph)

    first = locked(form, align(form, form) if family else None)
    second = locked(other, align(form, other) if family else None)
    assert text(second) == text(first)


def test_nodes_have_the_specifications_paths() -> None:
    """In a network of the family; additional nodes are named after their operator, in their block."""
    graph = short(TF_RELEASE)
    twice = inserted(inserted(graph, "aspp.projection.activation", path="a"), "decoder.conv1.pointwise.conv", path="b")
    form = normal(renamed(twice, "m.{}".format))
    tanh = normal(renamed(with_op(graph, "aspp.projection.activation", kind="tanh"), "m.{}".format))
    found = locked(form, align(normal(graph), form))

    extra = {node.path for node in found.normal.network} - {node.path for node in graph}
    assert extra == {"decoder.conv1.extra.activation"}, "a second ReLU changes nothing"
    assert "aspp.projection.activation" in locked(tanh, align(normal(graph), tanh)).normal.network


def test_other_networks_count_joints_and_convolutions() -> None:
    """An extra layer renames nothing after the next joint."""
    graph = short(NOTEBOOK)
    longer = inserted(graph, "backbone.middle_flow.block1.sepconv1.pointwise.conv")
    paths = [node.path for node in locked(graph).normal.network]
    more = [node.path for node in locked(longer).normal.network]

    assert paths[:4] == ["input", "part1.unit1.conv", "part1.unit1.norm", "part1.unit1.activation"]
    assert len(set(more) - set(paths)) == 1
    assert not set(paths) - set(more)


def test_a_wrong_rate_changes_its_own_line() -> None:
    """And the facts that follow from it, and the digest: the diff is what a reviewer must know."""
    graph = narrow_network(TF_RELEASE.choices, 16)
    other = with_op(graph, "aspp.atrous2.depthwise.conv", rate=(13, 13), padding=margins(13))
    form = normal(graph)
    before = records(locked(graph, align(form, form), NearestNetwork(variant="tf-release")))
    after = records(locked(other, align(form, normal(other)), NearestNetwork(variant="tf-release", unexplained=1)))

    assert len(before) == len(after)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [old["type"] for old, _ in changed] == ["nearest", "Conv2d", "digest"]
    old, new = changed[1]
    assert (old["path"], old["rate"], old["padding"]) == ("aspp.atrous2.depthwise.conv", [12, 12], [12, 12, 12, 12])
    assert {name for name in old if old[name] != new[name]} == {"rate", "padding"}


def test_a_removed_layer_changes_few_lines() -> None:
    """Its own line, and that of its reader."""
    graph = short(TF_RELEASE)
    form = normal(graph)
    other = normal(inserted(graph, "decoder.conv1.pointwise.conv", path="b"))
    before, after = (records(locked(found, align(form, found))) for found in (form, other))

    new = [record for record in after if record not in before]
    assert [record.get("path") for record in new] == [
        "decoder.conv1.extra.activation",
        "decoder.conv1.pointwise.norm",
        None,
    ]


@pytest.mark.parametrize("variant", XCEPTIONS, ids=lambda variant: variant.name)
def test_the_lock_of_a_published_network_is_small_and_says_what_it_costs(variant: Variant) -> None:
    """At full width and depth."""
    form = normal_form(shaped(network(variant.choices, 16, 21), (513, 513)))
    found = canonical_lock(
        Lock(target="reference", output_stride=16, classes=21, image=(513, 513), normal=form), align(form, form)
    )
    content = text(found)

    published = {
        "notebook": (53_559_805, 65_972_773_424),
        "tf-release": (41_055_413, 54_035_303_024),
        "tf-release-dense": (54_711_461, 86_679_236_288),
    }
    parameters, operations = published[variant.name]
    assert f'"parameters": {parameters}, "multiply_adds": {operations}}}\n' in content
    assert len(content.encode()) < 120_000
    assert content.isascii()
    assert sum(block.parameters for block in found.blocks) == found.parameters
    assert sum(block.multiply_adds for block in found.blocks) == found.multiply_adds


def test_parameters_that_nodes_share_are_counted_once() -> None:
    """The node that shares them is marked."""
    form = narrow_normal(replace(TF_RELEASE.choices, middle_blocks=2), 16)
    path = "aspp.atrous3.pointwise.conv"
    found = locked(form, align(form, form), shared=(path, "gone"))

    assert found.shared == {path}
    assert found.parameters == locked(form).parameters - 64 * 8
    assert [record["path"] for record in records(found) if record.get("shared")] == [path]
    assert read(text(found), "a.lock") == found


def test_the_top_of_a_lock_is_for_its_reader() -> None:
    """The target, the nearest network and the accepted inputs; choices as on the command line."""
    title, network, nearest, *responses, block = text(locked(short(TF_RELEASE))).splitlines()[:6]

    assert title == (
        '{"type": "lock", "format": 2, "note": "Made by `deeplab-spec lock`; '
        'compared by `deeplab-spec certify TARGET --against FILE`. Do not edit."}'
    )
    assert network.startswith(
        '{"type": "network", "target": "my_model:build", "output_stride": 16, "classes": 5, "image": [289, 300], '
    )
    assert nearest == (
        '{"type": "nearest", "variant": "tf-release", '
        '"choices": ["middle_blocks=2", "aspp_rates=12,24,36", "decoder_dropout="], "unexplained": 3}'
    )
    assert responses == [
        (
            '{"type": "response", "inputs": [[2, 3, 64, 96]], "dtype": "float32", '
            '"results": [{"tap": "logits", "shape": [2, 5, 64, 96], "dtype": "float32"}]}'
        ),
        '{"type": "response", "inputs": [[1, 3, 33, 50], [1, 1, 1]], "dtype": "float64", "results": []}',
    ]
    assert block == ('{"type": "block", "path": "input", "parameters": 0, "multiply_adds": 0, "output": [3, 289, 300]}')

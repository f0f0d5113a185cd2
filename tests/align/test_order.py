"""The order of definition and the names of nodes change neither canonical order nor alignment."""

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.align.differences import differences
from deeplab_spec.align.match import align
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.align.order import Branch, by_length, ordered
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, Add, Concat, Conv2d, Input, Output
from deeplab_spec.mutate.mutant import with_inputs
from deeplab_spec.spec.variants import TF_RELEASE, Variant
from tests.support.graphs import TELLING, narrow_network, narrow_normal, normal, renamed, side_by_side
from tests.support.strategies import cases

SHORT = {"middle_blocks": 2}
shufflers = st.integers(0, 2**32).map(random.Random)


def short(variant: Variant, output_stride: int) -> Network:
    """Return the graph of a variant with few middle blocks."""
    return narrow_network(replace(variant.choices, **SHORT), output_stride)


def reordered(graph: Network, shuffler: random.Random) -> Network:
    """Return the same network with its nodes in another order in which they can be executed."""
    waiting = list(graph.nodes)
    done: dict[str, Node] = {}
    while waiting:
        ready = [node for node in waiting if all(path in done for path in node.inputs)]
        node = shuffler.choice(ready)
        done[node.path] = node
        waiting.remove(node)
    return replace(graph, nodes=tuple(done.values()))


@given(case=cases(), shuffler=shufflers)
def test_order_follows_from_the_graph_alone(case: tuple[Variant, int], shuffler: random.Random) -> None:
    """The same nodes in the same order, whichever branch was computed first."""
    graph = short(*case)

    assert ordered(reordered(graph, shuffler)) == ordered(graph)


@given(case=cases(), shuffler=shufflers)
def test_an_order_can_be_executed(case: tuple[Variant, int], shuffler: random.Random) -> None:
    """Every node once, after its inputs, except the size of a resize."""
    graph = reordered(normal(short(*case)).network, shuffler)
    nodes = ordered(graph)

    assert sorted(node.path for node in nodes) == sorted(node.path for node in graph)
    assert Network(nodes=nodes) is not None


@given(case=cases(), shuffler=shufflers)
def test_names_and_writing_order_are_no_difference(case: tuple[Variant, int], shuffler: random.Random) -> None:
    """Nodes are aligned by structure: every node with itself, at cost 0."""
    graph = short(*case)
    numbers = shuffler.sample(range(1000), len(graph))
    names = {node.path: f"m{number}" for node, number in zip(graph, numbers, strict=True)}
    candidate = renamed(reordered(graph, shuffler), names.__getitem__)

    alignment = side_by_side(graph, candidate)

    assert alignment.price == 0
    assert differences(alignment) == ()
    assert alignment.partner == {node.path: names[node.path] for node in alignment.expected.network}


@given(case=cases(), order=st.permutations(range(5)), swap=st.booleans())
def test_the_order_of_a_concatenation_is_no_difference(
    case: tuple[Variant, int],
    order: list[int],
    swap: bool,  # noqa: FBT001 - drawn
) -> None:
    """Branches are paired by their structure; the weights that read them are permuted with them."""
    graph = short(*case)
    branches, merged = graph["aspp.concat"].inputs, graph["decoder.concat"].inputs
    candidate = with_inputs(graph, "aspp.concat", *(branches[place] for place in order))
    candidate = with_inputs(candidate, "decoder.concat", *(reversed(merged) if swap else merged))

    alignment = side_by_side(graph, renamed(candidate, "m.{}".format))

    assert differences(alignment) == ()
    assert alignment.partner == {node.path: f"m.{node.path}" for node in alignment.expected.network}


def test_a_value_that_is_joined_twice_and_another_left_out_is_a_difference() -> None:
    """A permutation uses every branch once."""
    graph = short(TF_RELEASE, 16)
    first, second, *rest = graph["aspp.concat"].inputs
    found = differences(side_by_side(graph, with_inputs(graph, "aspp.concat", first, first, *rest)))

    assert found
    assert any(aspect.path.startswith(("aspp.concat", second.rpartition(".")[0])) for aspect in found)


def test_several_outputs_are_distinguished_by_name() -> None:
    """Not by the order in which they are returned."""
    x = Node(path="x", op=Input(channels=4))
    relu = Node(path="relu", op=Activation(), inputs=("x",))
    a = Node(path="a", op=Output(name="a"), inputs=("x",))
    b = Node(path="b", op=Output(name="b"), inputs=("relu",))
    one, other = Network(nodes=(x, relu, a, b)), Network(nodes=(x, relu, b, a))

    assert ordered(one) == ordered(other)
    assert differences(side_by_side(one, other, (4, 4))) == ()
    swapped = Network(
        nodes=(x, relu, replace(a, op=Output(name="b")), replace(b, op=Output(name="a"))),
    )
    assert differences(side_by_side(one, swapped, (4, 4)))


def branches(graph: Network) -> dict[str, list[Branch]]:
    """Return the branches that are put in order at every joining node."""
    found: dict[str, list[Branch]] = {}

    def note(node: Node, arriving: list[Branch]) -> list[Branch]:
        found[node.path] = list(arriving)
        return by_length(node, arriving)

    ordered(graph, note)
    return found


def test_branches_are_what_one_input_needs_alone() -> None:
    """A skip of one convolution and a main path of two, from a shared input."""
    conv = Conv2d(channels_in=1, channels_out=1)
    names = {"x": (), "entry": ("x",), "main1": ("entry",), "main2": ("main1",), "skip": ("entry",)}
    nodes = [Node(path=path, op=conv if inputs else Input(channels=1), inputs=inputs) for path, inputs in names.items()]
    joint = Node(path="add", op=Add(), inputs=("main2", "skip"))
    graph = Network(nodes=(*nodes, joint, Node(path="y", op=Output(name=""), inputs=("add",))))

    assert branches(graph) == {"add": [("main1", "main2"), ("skip",)]}
    assert by_length(joint, [("a",), ("b", "c")]) == [("b", "c"), ("a",)]
    assert [node.path for node in ordered(graph)] == ["x", "entry", "main1", "main2", "skip", "add", "y"]


def test_the_pyramid_is_the_only_joint_of_five() -> None:
    """So its branches are matched by trying every order."""
    graph = narrow_network(TF_RELEASE.choices, 16)

    assert [path for path, found in branches(graph).items() if len(found) > 2] == ["aspp.concat"]
    assert len(branches(graph)["aspp.concat"]) == 5
    assert isinstance(graph["aspp.concat"].op, Concat)


@given(case=cases())
def test_a_network_is_aligned_with_itself(case: tuple[Variant, int]) -> None:
    """Node by node, at cost 0, at full depth."""
    variant, output_stride = case
    expected = narrow_normal(variant.choices, output_stride)
    alignment = align(expected, normal_form(Shaped(network=expected.network, shapes=expected.shapes)))

    assert alignment.pairs == tuple((node.path, node.path) for node in ordered(expected.network))
    assert (alignment.missing, alignment.extra, alignment.price) == ((), (), 0)
    assert expected.map_size("input") == TELLING

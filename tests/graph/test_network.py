"""The guarantees of a network: closed selections, live nodes, names of values."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.errors import GraphError
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, Add, Concat, Input, Output
from tests.support.graphs import narrow_network
from tests.support.strategies import cases


@st.composite
def graphs(draw: st.DrawFn) -> Network:
    """Draw a graph of one input, a few operations that read anything before them, and an output."""
    nodes = [Node(path="n0", op=Input(channels=1))]
    for number in range(1, draw(st.integers(1, 8), label="operations") + 1):
        before = st.sampled_from([node.path for node in nodes])
        op = draw(st.sampled_from([Activation(), Add(), Concat()]), label="operation")
        count = 1 if isinstance(op, Activation) else 2
        inputs = tuple(draw(before, label="reads") for _ in range(count))
        nodes.append(Node(path=f"n{number}", op=op, inputs=inputs))
    last = draw(st.sampled_from([node.path for node in nodes]), label="result")
    return Network(nodes=(*nodes, Node(path="y", op=Output(name="y"), inputs=(last,))), taps=(("result", last),))


def ancestors(graph: Network, path: str) -> set[str]:
    """Return the nodes that a value depends on, found backwards."""
    return {path}.union(*(ancestors(graph, value) for value in graph[path].inputs))


@given(graph=graphs())
def test_live_keeps_just_what_an_output_depends_on(graph: Network) -> None:
    """Inputs stay too, since a caller passes them whether they are read or not."""
    kept = {node.path for node in graph.live()}

    assert kept == ancestors(graph, "y") | {"n0"}
    assert graph.live().live() == graph.live()


@given(graph=graphs())
def test_readers_are_the_inputs_turned_around(graph: Network) -> None:
    """Each time that a node reads a value, the value has that reader once."""
    readers = graph.readers()

    for node in graph:
        for path in graph:
            assert readers[node.path].count(path.path) == path.inputs.count(node.path)
    assert sum(map(len, readers.values())) == sum(len(node.inputs) for node in graph)


@given(graph=graphs(), data=st.data())
def test_only_keeps_a_closed_selection_and_refuses_another(graph: Network, data: st.DataObject) -> None:
    """A selection without an input of one of its nodes is refused."""
    path = data.draw(st.sampled_from([node.path for node in graph if node.path != "n0"]), label="left out")
    kept = {node.path for node in graph} - {path}
    readers = graph.readers()[path]
    if readers or path == "y":
        with pytest.raises(GraphError):
            graph.only(kept)
    else:
        assert {node.path for node in graph.only(kept)} == kept


def test_only_drops_the_names_of_values_that_are_gone() -> None:
    """A tap must name a node."""
    x = Node(path="x", op=Input(channels=1))
    extra = Node(path="extra", op=Activation(), inputs=("x",))
    graph = Network(
        nodes=(x, extra, Node(path="y", op=Output(name="y"), inputs=("x",))), taps=(("a", "x"), ("b", "extra"))
    )

    assert graph.only({"x", "y"}).taps == (("a", "x"),)
    assert graph.tap("b") == "extra"
    with pytest.raises(GraphError, match=r"c: must be a tap \(a, b\), but got 'c'"):
        graph.tap("c")


@given(case=cases())
def test_a_network_is_found_by_path_and_compares_by_value(case: tuple) -> None:
    """Records are frozen, so a network that is built twice is the same network."""
    variant, output_stride = case
    graph = narrow_network(variant.choices, output_stride)

    assert all(graph[node.path] is node and node.path in graph for node in graph)
    assert "nothing" not in graph
    assert len(graph) == len(graph.nodes)
    assert graph == replace(graph)
    assert graph.with_nodes(graph.nodes) == graph
    assert [node.path for node in graph.inputs] == ["input"]
    assert [node.path for node in graph.outputs] == ["output"]
    with pytest.raises(KeyError):
        graph["nothing"]

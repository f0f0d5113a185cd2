"""An edit of a graph changes exactly one thing."""

import pytest

from deeplab_spec.align.identify import edits
from deeplab_spec.errors import GraphError
from deeplab_spec.graph.ops import Activation, BatchNorm, Conv2d
from deeplab_spec.mutate.mutant import inserted, with_inputs, without
from tests.support.graphs import chain, edited, renamed, with_op

CONV = Conv2d(channels_in=4, channels_out=4)
GRAPH = chain(CONV, BatchNorm(channels=4, eps=1e-3, momentum=0.1), Activation())


def test_with_op_changes_the_fields_of_one_operation() -> None:
    """A fault of one attribute must not come with another."""
    assert edits(GRAPH, with_op(GRAPH, "n1", bias=True)) == {("n1", "bias")}


def test_with_op_refuses_a_field_that_the_operation_does_not_have() -> None:
    """An unknown field would be a fault without effect."""
    with pytest.raises(TypeError, match="eps"):
        with_op(GRAPH, "n1", eps=1.0)


def test_with_inputs_gives_one_node_other_values() -> None:
    """The former input is still there."""
    assert edits(GRAPH, with_inputs(GRAPH, "n3", "n1")) == {("n3", "inputs")}


def test_with_inputs_refuses_a_value_that_does_not_stand_before() -> None:
    """A graph that cannot be executed is refused."""
    with pytest.raises(GraphError, match="must stand before its reader"):
        with_inputs(GRAPH, "n1", "n3")


def test_without_connects_readers_to_the_node_s_input() -> None:
    """Consecutive nodes are removed together; a tap on one of them moves to the node that is left."""
    graph = without(GRAPH, ["n2", "n3"])

    assert [(node.path, node.inputs) for node in graph] == [("x", ()), ("n1", ("x",)), ("y", ("n1",))]


def test_readers_take_the_inserted_operation() -> None:
    """All readers of the value read the inserted operation."""
    graph = inserted(GRAPH, "n1")

    assert (graph["inserted"].op, graph["inserted"].inputs) == (Activation(), ("n1",))
    assert graph["n2"].inputs == ("inserted",)


def test_renamed_keeps_operators_and_connections() -> None:
    """A name does not change what a network computes."""
    graph = renamed(GRAPH, lambda path: f"model.{path}")

    assert [node.op for node in graph] == [node.op for node in GRAPH]
    assert graph["model.n2"].inputs == ("model.n1",)


def test_edited_replaces_one_node_by_several() -> None:
    """The others stay as they are."""
    graph = edited(GRAPH, "y", lambda node: [node, node.__class__(path="z", op=node.op, inputs=node.inputs)])

    assert [node.path for node in graph] == ["x", "n1", "n2", "n3", "y", "z"]

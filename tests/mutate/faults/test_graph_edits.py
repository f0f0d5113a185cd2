"""Claims of the edits: exactly one thing is other than before."""

import pytest

from deeplab_spec.align.explain import edits
from deeplab_spec.errors import GraphError
from deeplab_spec.graph.ops import Activation, BatchNorm, Conv2d
from deeplab_spec.mutate.faults.graph_edits import edited, inserted, renamed, with_inputs, with_op, without
from tests.support.graphs import chain

CONV = Conv2d(channels_in=4, channels_out=4)
GRAPH = chain(CONV, BatchNorm(channels=4, eps=1e-3, momentum=0.1), Activation())


def test_with_op_changes_the_fields_of_one_operation() -> None:
    """A fault of one attribute must not come with another."""
    assert edits(GRAPH, with_op(GRAPH, "n1", bias=True)) == {("n1", "bias")}


def test_with_op_refuses_a_field_that_the_operation_does_not_have() -> None:
    """A fault that is none would be a fault that nothing sees."""
    with pytest.raises(TypeError, match="eps"):
        with_op(GRAPH, "n1", eps=1.0)


def test_with_inputs_gives_one_node_other_values() -> None:
    """The node reads another value; the value that it read is still there."""
    assert edits(GRAPH, with_inputs(GRAPH, "n3", "n1")) == {("n3", "inputs")}


def test_with_inputs_refuses_a_value_that_does_not_stand_before() -> None:
    """A graph that cannot be executed is no wrong network."""
    with pytest.raises(GraphError, match="must stand before its reader"):
        with_inputs(GRAPH, "n1", "n3")


def test_without_lets_the_readers_read_what_the_node_read() -> None:
    """Nodes in a row are taken out together; a tap on them is one on what is left."""
    graph = without(GRAPH, ["n2", "n3"])

    assert [(node.path, node.inputs) for node in graph] == [("x", ()), ("n1", ("x",)), ("y", ("n1",))]


def test_inserted_is_read_instead_of_the_value() -> None:
    """Everything that read the value reads the operation on it."""
    graph = inserted(GRAPH, "n1")

    assert (graph["inserted"].op, graph["inserted"].inputs) == (Activation(), ("n1",))
    assert graph["n2"].inputs == ("inserted",)


def test_renamed_keeps_the_operations_and_what_they_read() -> None:
    """A name is no part of what a network computes."""
    graph = renamed(GRAPH, lambda path: f"model.{path}")

    assert [node.op for node in graph] == [node.op for node in GRAPH]
    assert graph["model.n2"].inputs == ("model.n1",)


def test_edited_replaces_one_node_by_several() -> None:
    """The others stay as they are."""
    graph = edited(GRAPH, "y", lambda node: [node, node.__class__(path="z", op=node.op, inputs=node.inputs)])

    assert [node.path for node in graph] == ["x", "n1", "n2", "n3", "y", "z"]

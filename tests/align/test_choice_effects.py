"""What a decision changes: fields, inputs, nodes that come and go."""

from dataclasses import replace

from deeplab_spec.align.choice_effects import edits
from deeplab_spec.graph.ops import Activation, ActivationKind, Dropout
from deeplab_spec.mutate.faults.graph_edits import edited, inserted, with_inputs, with_op, without
from deeplab_spec.spec.choices import NAMES, choose, seen_values
from deeplab_spec.spec.variants import TF_RELEASE
from tests.support.graphs import narrow_network

CHOICES = replace(TF_RELEASE.choices, middle_blocks=1)
GRAPH = narrow_network(CHOICES, 8)
CONV, NORM, RELU = (f"aspp.conv1x1.{kind}" for kind in ("conv", "norm", "activation"))


def test_a_graph_has_no_edits_against_itself() -> None:
    """Nothing is changed."""
    assert edits(GRAPH, GRAPH) == frozenset()


def test_every_changed_field_is_an_edit() -> None:
    """And nothing but what changed."""
    assert edits(GRAPH, with_op(GRAPH, CONV, bias=True)) == {(CONV, "bias")}
    assert edits(GRAPH, with_op(GRAPH, RELU, kind=ActivationKind.ELU, slope=1.0)) == {(RELU, "kind"), (RELU, "slope")}
    assert edits(GRAPH, with_inputs(GRAPH, NORM, "input")) == {(NORM, "inputs")}


def test_another_operation_is_another_node() -> None:
    """Its fields cannot be compared."""
    other = edited(GRAPH, RELU, lambda node: [replace(node, op=Dropout(probability=0.5))])

    assert edits(GRAPH, other) == {(RELU, "node")}


def test_a_node_that_goes_and_a_node_that_comes() -> None:
    """What reads them reads another value; a new node stands after what it reads."""
    assert edits(GRAPH, without(GRAPH, [RELU])) == {(RELU, "node"), ("aspp.concat", "inputs")}
    more = inserted(GRAPH, NORM, Activation(), path="more")
    assert edits(GRAPH, more) == {("more", "node"), (NORM, "after"), (RELU, "inputs")}


def test_every_visible_choice_edits_the_graph() -> None:
    """A choice that changes nothing could not be judged: these are not in the graph, or in training only."""
    silent = set()
    for name in NAMES:
        graphs = [narrow_network(choose(CHOICES, {name: value}), 8) for value in seen_values(name)]
        if not any(edits(GRAPH, graph) for graph in graphs):
            silent.add(name)

    assert silent == {"init", "sizes_accepted", "width"}, "width is held narrow here"

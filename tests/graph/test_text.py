"""A network that is written and read again is the network that it was."""

import math
from dataclasses import fields, replace
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.errors import GraphError
from deeplab_spec.graph import text
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, BatchNorm, Conv2d, Input, Op, Opaque, Output
from deeplab_spec.graph.text import from_lines, node_line, read_node, to_lines
from tests.support.drawn import any_networks, operator
from tests.support.graphs import narrow_network
from tests.support.strategies import cases

X = "x = Input(channels=1)"
Y = 'y = Output(name="") <- x'


@given(graph=any_networks())
def test_what_is_written_is_read_again(graph: Network) -> None:
    """Every operator, every field, every name, in the same order."""
    lines = list(to_lines(graph))

    assert from_lines(lines) == graph
    assert list(to_lines(from_lines(lines))) == lines
    assert len(lines) == len(graph) + len(graph.taps)


@pytest.mark.parametrize("kind", get_args(Op), ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_operator_is_read_with_every_field(kind: type[Op], data: st.DataObject) -> None:
    """One line, of plain characters, with nothing left behind it."""
    node = Node(path="a", op=data.draw(operator(kind), label="operator"), inputs=("b",))
    line = node_line(node)

    assert read_node(line) == (node, "")
    assert line.isascii()
    assert line.isprintable()
    read = read_node(line)[0].op
    assert all(type(getattr(read, field.name)) is type(getattr(node.op, field.name)) for field in fields(kind))


@given(case=cases())
def test_the_specification_is_read_again(case: tuple) -> None:
    """But for where each number is published, which is no part of the graph."""
    variant, output_stride = case
    graph = narrow_network(variant.choices, output_stride)

    assert from_lines(to_lines(graph)) == graph.with_nodes(replace(node, source=None) for node in graph)


def test_a_line_reads_like_a_sentence() -> None:
    """Fields that are their record's default are not stated; pairs, margins and names are as people write them."""
    conv = Conv2d(channels_in=3, channels_out=32, kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    odd = Node(path="head[0]['out']#2", op=Activation(), inputs=("two words", "Größe"))
    nan = Node(path="n", op=BatchNorm(channels=1, eps=math.nan, momentum=math.inf), inputs=("x",))

    assert node_line(Node(path="stem.conv", op=conv, inputs=("input",))) == (
        "stem.conv = Conv2d(channels_in=3, channels_out=32, kernel=3x3, stride=2x2, padding=1,1,1,1) <- input"
    )
    assert node_line(odd) == 'head[0][\'out\']#2 = Activation() <- "two words", "Gr\\u00f6\\u00dfe"'
    assert node_line(nan) == "n = BatchNorm(channels=1, eps=nan, momentum=inf) <- x"
    graph = Network(
        nodes=(
            Node(path="x", op=Input(channels=1)),
            Node(path="y", op=Output(name="")),
        ),
        taps=(("a", "x"),),
    )
    assert list(to_lines(graph))[-1] == "tap a = x"


def test_every_type_of_field_can_be_written() -> None:
    """A new field of a new type would fail here, not when somebody's network has it."""
    types = {hint for kind in get_args(Op) for hint in get_type_hints(kind).values()}

    assert types == set(text._FORMS)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("", "must be PATH = OPERATOR"),
        ("x", "must be PATH = OPERATOR"),
        ("a = Relu", "must be PATH = OPERATOR"),
        ("a b = Add() <- x, x", "must be PATH = OPERATOR"),
        ("a = Relu() <- x", "the operator must be one of Input, Conv2d"),
        ("a = Add(scale=2) <- x, x", "a field of Add must be one of none, once"),
        ("a = Input(channels=1, channels=1)", "a field of Input must be one of channels, once"),
        ("a = Input(channels=1, )", "fields must be FIELD=VALUE"),
        ("a = Input(channels=1,groups=1)", "channels cannot have this value"),
        ("a = Input(channels)", "fields must be FIELD=VALUE"),
        ("a = Input()", "Input must state channels"),
        ("a = Input(channels=1.0)", "channels cannot have this value"),
        ("a = Input(channels=1_000)", "channels cannot have this value"),
        ("a = Input(channels=٣)", "channels cannot have this value"),
        (f"a = Input(channels={'9' * 5000})", "channels cannot have this value"),
        ("a = Dropout(probability=a half) <- x", "fields must be FIELD=VALUE"),
        ("a = Dropout(probability=0.50) <- x", "probability cannot have this value"),
        ("a = Dropout(probability=none) <- x", "probability cannot have this value"),
        ("a = BatchNorm(channels=1, eps=0.1, momentum=none, affine=yes) <- x", "affine cannot have this value"),
        ("a = Activation(kind=softmax) <- x", "kind cannot have this value"),
        ("a = Conv2d(channels_in=1, channels_out=1, kernel=3) <- x", "kernel cannot have this value"),
        ("a = Conv2d(channels_in=1, channels_out=1, padding=1,1,1) <- x", "padding cannot have this value"),
        ("a = Conv2d(channels_in=1, channels_out=1, kernel=0x3) <- x", "kernel, stride and rate must be positive"),
        ("a = Pool(kind=max, kernel=3x3, stride=0x1) <- x", "kernel and stride must be positive"),
        (r'a = Opaque(target="\q") <- x', "target cannot have this value"),
        (r'"\q" = Add() <- x, x', "must be a string"),
        ("a = Add() <- x, x and more", "nothing may follow a node"),
        ("a = Add() <- b, b", "an input must stand before its reader"),
        ("a = Add() <- a, a", "an input must stand before its reader"),
        ("x = Add() <- x, x", "a path must be unique"),
        ("tap a = b", "a tap must name a node"),
    ],
)
def test_what_is_no_network_is_refused(line: str, rule: str) -> None:
    """In one short line, whatever arrived."""
    with pytest.raises(GraphError, match=rule) as caught:
        from_lines([X, line, Y])

    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


@given(line=st.text() | st.text(alphabet='ab=(),"\\<- x.1[]'))
def test_any_other_line_is_refused_as_no_network(line: str) -> None:
    """Never by another error; what is accepted is written as it was."""
    try:
        graph = from_lines([X, line, Y])
    except GraphError:
        return
    assert list(to_lines(graph))[1:-1] == [line] or graph.taps


def test_an_opaque_operation_is_kept_with_its_place() -> None:
    """Whatever a framework calls it."""
    node = Node(path="aten.sin", op=Opaque(target="aten.sin.default", detail='("a", b)\n'), inputs=("x",))

    assert read_node(node_line(node)) == (node, "")

"""Values proven never to be negative are never negative, for any weights; and the proof is as strong as possible."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.analysis.intervals import never_negative
from deeplab_spec.execute.interpreter import run
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    Add,
    Concat,
    Conv2d,
    GlobalAveragePool,
    Input,
    Multiply,
    Op,
    Opaque,
    Output,
    Pad,
    Pool,
    PoolKind,
    Resize,
    ResizeMode,
)
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE
from tests.support.graphs import chain, narrow_network
from tests.support.strategies import seeds
from tests.support.weights import whole

SIDE = 6
UNARY: list[Op] = [
    *(Activation(kind=kind, slope=0.5) for kind in ActivationKind),
    *(Resize(mode=mode, align_corners=mode is not ResizeMode.NEAREST, size=(SIDE, SIDE)) for mode in ResizeMode),
    Pad(margins=(-1, 1, 1, -1), value=-1.0),
    Pad(margins=(1, -1, -1, 1), value=2.0),
    Pool(kind=PoolKind.MAX, kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1)),
    Pool(kind=PoolKind.AVERAGE, kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1)),
    Conv2d(channels_in=2, channels_out=2),
]


@st.composite
def graphs(draw: st.DrawFn) -> Network:
    """Draw a graph in which every value has two channels and one size."""
    nodes = [Node(path="x", op=Input(channels=2))]
    for number in range(draw(st.integers(1, 8), label="operations")):
        before = st.sampled_from([node.path for node in nodes])
        op = draw(st.sampled_from([*UNARY, Add()]), label="operation")
        inputs = tuple(draw(before, label="reads") for _ in range(2 if isinstance(op, Add) else 1))
        nodes.append(Node(path=f"n{number}", op=op, inputs=inputs))
    return Network(nodes=(*nodes, Node(path="y", op=Output(name=""), inputs=(nodes[-1].path,))))


@given(graph=graphs(), seed=seeds)
def test_a_value_that_is_proven_not_negative_is_not(graph: Network, seed: int) -> None:
    """Whole inputs and weights of every sign never contradict the proof."""
    weights = {f"{node.path}.weight": whole((2, 2, 1, 1), seed + number) for number, node in enumerate(graph)}
    values = run(graph, weights, {"x": whole((1, 2, SIDE, SIDE), seed, -9, 9)})

    for path in never_negative(graph):
        assert values[path].min() >= 0, path


@pytest.mark.parametrize(
    ("op", "keeps"),
    [
        (Activation(kind=ActivationKind.LEAKY_RELU, slope=0.1), True),
        (Activation(kind=ActivationKind.ELU, slope=1.0), True),
        (Activation(kind=ActivationKind.TANH), True),
        (Resize(size=(3, 3)), True),
        (Resize(mode=ResizeMode.BICUBIC, size=(3, 3)), False),
        (Pad(margins=(1, 1, 1, 1)), True),
        (Pad(margins=(1, 1, 1, 1), value=-1.0), False),
        (GlobalAveragePool(), True),
        (Conv2d(channels_in=4, channels_out=4), False),
        (Opaque(target="aten.neg"), False),
    ],
)
def test_what_follows_a_relu_stays_positive_just_where_it_must(op: Op, keeps: bool) -> None:  # noqa: FBT001 - the claim
    """Cubic interpolation overshoots, a convolution may have any weights, and opaque operations are unknown."""
    assert ("n2" in never_negative(chain(Activation(), op))) is keeps
    assert "n1" not in never_negative(chain(op))


def test_a_sum_is_positive_if_both_sides_are() -> None:
    """So is a product, and a concatenation of such parts."""
    x = Node(path="x", op=Input(channels=1))
    relu = Node(path="relu", op=Activation(), inputs=("x",))
    for op in (Add(), Multiply(), Concat()):
        both = Node(path="both", op=op, inputs=("relu", "relu"))
        one = Node(path="one", op=op, inputs=("relu", "x"))
        out = Node(path="y", op=Output(name=""), inputs=("one",))
        positive = never_negative(Network(nodes=(x, relu, both, one, out)))
        assert "both" in positive
        assert "one" not in positive


def test_a_resize_to_the_size_of_a_negative_value_is_as_its_first_value() -> None:
    """Of the second it reads the size alone."""
    x = Node(path="x", op=Input(channels=1))
    relu = Node(path="relu", op=Activation(), inputs=("x",))
    right = Node(path="right", op=Resize(), inputs=("relu", "x"))
    wrong = Node(path="wrong", op=Resize(), inputs=("x", "relu"))
    out = Node(path="y", op=Output(name=""), inputs=("right",))

    assert {"right", "wrong"} & never_negative(Network(nodes=(x, relu, right, wrong, out))) == {"right"}


def test_block_inputs_of_the_document_are_never_negative_and_those_of_the_release_are() -> None:
    """So a ReLU before a block is the same function in the one and a fault in the other."""
    sums = {
        variant.name: [
            node.path in never_negative(narrow_network(variant.choices, 16))
            for node in narrow_network(variant.choices, 16)
            if isinstance(node.op, Add)
        ]
        for variant in (NOTEBOOK, TF_RELEASE)
    }

    assert len(sums["notebook"]) == 20
    assert all(sums["notebook"])
    assert not any(sums["tf-release"])


def test_cubic_interpolation_overshoots() -> None:
    """So a cubic resize of values that are not negative proves nothing."""
    x = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    x[..., 2, 2] = 1.0
    graph = chain(Resize(mode=ResizeMode.BICUBIC, align_corners=True, size=(9, 9)), channels=1)

    assert run(graph, {}, {"x": x})["y"].min() < 0

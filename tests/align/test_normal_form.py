"""Each known equivalence leaves no difference; the same rewrite with one wrong number leaves one."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from deeplab_spec.align.cost import excess
from deeplab_spec.align.network_at_size import Shaped, shaped
from deeplab_spec.align.normal_form import PASSES, normal_form
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    BatchNorm,
    Concat,
    Conv2d,
    Dropout,
    GlobalAveragePool,
    Input,
    Op,
    Output,
    Pad,
    Resize,
    ResizeMode,
)
from deeplab_spec.spec.variants import Variant
from tests.support.graphs import between, chain, narrow_network, narrow_normal, normal
from tests.support.members import KINDS

SIZE = (9, 12)
C: Any = {"channels_in": 4, "channels_out": 4}
ATROUS = Conv2d(**C, kernel=(3, 3), rate=(2, 2), padding=(2, 2, 2, 2))
BARE = replace(ATROUS, padding=(0, 0, 0, 0))
NORM = BatchNorm(channels=4, eps=1e-3, momentum=0.1)
BORDER = Pad(margins=(2, 2, 2, 2))
LEAKY = Activation(kind=ActivationKind.LEAKY_RELU, slope=0.1)
RELU = Activation()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """A network in two equivalent forms, and forms that are nearly equivalent.

    Attributes:
        plain: The first form.
        equal: The second form: the same function.
        wrong: Forms that look like the second, but compute another function.
    """

    plain: tuple[Op, ...]
    equal: tuple[Op, ...]
    wrong: tuple[tuple[Op, ...], ...]


STRIDED = Conv2d(**C, kernel=(3, 3), stride=(2, 2), padding="same")

REWRITES = {
    "a border put into the convolution": Rewrite(
        plain=(ATROUS,),
        equal=(BORDER, BARE),
        wrong=(
            (replace(BORDER, margins=(2, 2, 2, 1)), replace(BARE, padding=(0, 0, 0, 0))),
            (replace(BORDER, value=1.0), BARE),
            (replace(BORDER, mode="reflect"), BARE),
            (BORDER, ATROUS),
            (BORDER, RELU, BARE),
        ),
    ),
    "a border in two parts": Rewrite(
        plain=(ATROUS,),
        equal=(Pad(margins=(1, 2, 0, 2)), replace(ATROUS, padding=(1, 0, 2, 0))),
        wrong=((Pad(margins=(1, 2, 0, 2)), replace(ATROUS, padding=(1, 0, 2, 1))),),
    ),
    "a border added in two steps": Rewrite(
        plain=(ATROUS,),
        equal=(Pad(margins=(1, 2, 0, 2)), Pad(margins=(1, 0, 2, 0)), BARE),
        wrong=(
            (Pad(margins=(1, 2, 0, 2)), Pad(margins=(1, 0, 2, 1)), BARE),
            (Pad(margins=(1, 2, 0, 2)), Pad(margins=(1, 0, 2, 0), value=1.0), BARE),
            (Pad(margins=(1, 2, 0, 2)), Pad(margins=(1, 0, 2, 0), mode="reflect"), BARE),
            (Pad(margins=(3, 2, 2, 2)), Pad(margins=(-1, 0, 0, 0)), BARE, RELU),
        ),
    ),
    "a border cut in two steps": Rewrite(
        plain=(Pad(margins=(-1, -2, 0, -3)), NORM),
        equal=(Pad(margins=(-1, 0, 0, -1)), Pad(margins=(0, -2, 0, -2)), NORM),
        wrong=((Pad(margins=(-1, 0, 0, -1)), Pad(margins=(0, -2, -1, -1)), NORM),),
    ),
    "dropout": Rewrite(
        plain=(NORM, RELU),
        equal=(Dropout(probability=0.5), NORM, Dropout(probability=0.1), RELU, Dropout(probability=0.9)),
        wrong=((Dropout(probability=0.5), NORM), (NORM, Dropout(probability=0.1), LEAKY)),
    ),
    "the rate of a single tap": Rewrite(
        plain=(Conv2d(**C),),
        equal=(Conv2d(**C, rate=(4, 7)),),
        wrong=((Conv2d(**C, stride=(2, 2)),), (Conv2d(**C, kernel=(3, 1), rate=(4, 1), padding=(4, 4, 0, 0)),)),
    ),
    "the rate along a single tap": Rewrite(
        plain=(Conv2d(**C, kernel=(3, 1), rate=(2, 1), padding=(2, 2, 0, 0)),),
        equal=(Conv2d(**C, kernel=(3, 1), rate=(2, 5), padding=(2, 2, 0, 0)),),
        wrong=((Conv2d(**C, kernel=(3, 1), rate=(3, 5), padding=(3, 3, 0, 0)),),),
    ),
    "a ReLU of what is not negative": Rewrite(
        plain=(NORM, RELU),
        equal=(NORM, RELU, RELU, LEAKY),
        wrong=(
            (NORM, LEAKY),
            (NORM, LEAKY, RELU),
            (NORM, RELU, Activation(kind=ActivationKind.RELU6)),
            (RELU, NORM, RELU),
        ),
    ),
    "the rule of SAME": Rewrite(
        plain=(STRIDED,),
        equal=(replace(STRIDED, padding=(1, 1, 0, 1)),),  # nine rows are odd, twelve columns even
        wrong=((replace(STRIDED, padding=(1, 1, 1, 1)),), (replace(STRIDED, padding=(1, 1, 1, 0)),)),
    ),
    "a resize of a single pixel": Rewrite(
        plain=(GlobalAveragePool(), Resize(align_corners=True, size=SIZE)),
        equal=(GlobalAveragePool(), Resize(mode=ResizeMode.BICUBIC, align_corners=False, size=SIZE)),
        wrong=((GlobalAveragePool(), Resize(size=(9, 11))), (Resize(size=SIZE),)),
    ),
    "the corners of a nearest resize": Rewrite(
        plain=(Resize(mode=ResizeMode.NEAREST, align_corners=True, size=(4, 4)),),
        equal=(Resize(mode=ResizeMode.NEAREST, align_corners=False, size=(4, 4)),),
        wrong=((Resize(align_corners=True, size=(4, 4)),),),
    ),
}


@pytest.mark.parametrize("name", REWRITES)
def test_an_equal_rewrite_has_no_difference(name: str) -> None:
    """With either of the two as the expected network."""
    rewrite = REWRITES[name]
    plain, equal = chain(*rewrite.plain), chain(*rewrite.equal)

    assert between(plain, equal, SIZE) == ()
    assert between(equal, plain, SIZE) == ()


@pytest.mark.parametrize(("name", "number"), [(name, n) for name in REWRITES for n in range(len(REWRITES[name].wrong))])
def test_a_wrong_rewrite_differs(name: str, number: int) -> None:
    """Networks that look like a known equivalence but differ."""
    rewrite = REWRITES[name]
    wrong = chain(*rewrite.wrong[number])

    assert between(chain(*rewrite.plain), wrong, SIZE) != ()
    assert between(wrong, chain(*rewrite.equal), SIZE) != ()


def test_what_no_output_needs_is_no_difference() -> None:
    """A head that is trained but not returned."""
    plain = chain(NORM, RELU)
    dead = Network(nodes=(*plain.nodes[:-1], Node(path="dead", op=NORM, inputs=("n1",)), plain.nodes[-1]))

    assert between(plain, dead, SIZE) == ()
    assert len(normal(dead, SIZE).network) == len(plain)


def test_a_border_that_something_else_reads_stays() -> None:
    """Only the convolution can include the padding; the other reader still sees it."""
    nodes = (
        Node(path="x", op=Input(channels=4)),
        Node(path="pad", op=BORDER, inputs=("x",)),
        Node(path="conv", op=replace(ATROUS, padding=(2, 2, 2, 2)), inputs=("pad",)),
        Node(path="join", op=Concat(), inputs=("pad", "conv")),
        Node(path="y", op=Output(name=""), inputs=("join",)),
    )

    assert "pad" in normal(Network(nodes=nodes), SIZE).network


def test_pads_of_one_pad_go_into_their_convolutions() -> None:
    """Both convolutions have their whole border, although the first row and column are padded once."""
    nodes = [Node(path="x", op=Input(channels=4)), Node(path="once", op=Pad(margins=(1, 0, 1, 0)), inputs=("x",))]
    for name in ("a", "b"):
        nodes += [
            Node(path=f"{name}.pad", op=Pad(margins=(1, 2, 1, 2)), inputs=("once",)),
            Node(path=name, op=BARE, inputs=(f"{name}.pad",)),
        ]
    nodes += [Node(path="join", op=Concat(), inputs=("a", "b")), Node(path="y", op=Output(name=""), inputs=("join",))]
    found = normal(Network(nodes=tuple(nodes)), SIZE).network

    assert [(node.path, node.op) for node in found if isinstance(node.op, Pad | Conv2d)] == [
        ("a", ATROUS),
        ("b", ATROUS),
    ]


def test_an_activation_that_is_computed_again_is_the_first() -> None:
    """For every reader; another activation of the same value is another value."""

    def read_twice(second: Op, *inputs: str) -> Network:
        nodes = (
            Node(path="x", op=Input(channels=4)),
            Node(path="norm", op=NORM, inputs=("x",)),
            Node(path="first", op=RELU, inputs=("norm",)),
            Node(path="second", op=second, inputs=("norm",)),
            Node(path="join", op=Concat(), inputs=inputs),
            Node(path="y", op=Output(name=""), inputs=("join",)),
        )
        return Network(nodes=nodes).live()

    once = read_twice(RELU, "first", "first")

    assert between(once, read_twice(RELU, "first", "second"), SIZE) == ()
    assert between(read_twice(RELU, "second", "second"), once, SIZE) == ()
    assert between(once, read_twice(LEAKY, "first", "second"), SIZE) != ()
    assert between(once, read_twice(Activation(kind=ActivationKind.RELU6), "second", "first"), SIZE) != ()


def test_a_tap_on_a_node_without_effect_moves_to_what_it_is() -> None:
    """The value is the same; its name stays."""
    graph = replace(chain(NORM, Dropout(probability=0.5)), taps=(("features", "n2"),))

    assert normal(graph, SIZE).network.tap("features") == "n1"


@pytest.mark.parametrize("variant", KINDS, ids=lambda variant: variant.name)
def test_the_normal_form_of_a_normal_form_is_itself(variant: Variant) -> None:
    """Nothing more is removed."""
    once = narrow_normal(variant.choices, 16)

    assert normal_form(once).network == once.network


@pytest.mark.parametrize("rewrite", PASSES, ids=lambda rewrite: rewrite.__name__)
def test_passes_keep_the_shapes_of_values(rewrite: Any) -> None:
    """A pass may remove nodes, but never change a value."""
    before = shaped(narrow_network(KINDS[1].choices, 16), (65, 66))
    after: Shaped = rewrite(before)

    for node in after.network:
        assert after.shapes[node.path] == before.shapes[node.path]
    assert {node.path for node in after.network} <= {node.path for node in before.network}


def test_excess_is_what_padding_adds_beyond_keeping_the_map() -> None:
    """So a wrong rate with its matching padding is one fault."""
    assert excess(ATROUS) == excess(replace(ATROUS, rate=(3, 3), padding=(3, 3, 3, 3))) == (0, 0, 0, 0)
    assert excess(replace(ATROUS, padding=(1, 2, 3, 4))) == (-1, 0, 1, 2)
    assert excess(STRIDED) == (0, 0, 0, 0)


def concatenated(*, apart: bool, swapped: bool = False) -> Network:
    """Return three values concatenated at once, or the first two before the third."""
    nodes = [Node(path="x", op=Input(channels=4))]
    nodes += [Node(path=name, op=replace(ATROUS, bias=name == "b"), inputs=("x",)) for name in "abc"]
    first = ("b", "a") if swapped else ("a", "b")
    if apart:
        nodes += [Node(path="pair", op=Concat(), inputs=first)]
    inputs = ("pair", "c") if apart else (*first, "c")
    nodes += [
        Node(path="all", op=Concat(), inputs=inputs),
        Node(path="y", op=Output(name="y"), inputs=("all",)),
    ]
    return Network(nodes=tuple(nodes))


def test_values_concatenated_in_two_steps_are_concatenated_values() -> None:
    """In the order of the result, and no other."""
    right = normal(concatenated(apart=False), SIZE)

    assert normal(concatenated(apart=True), SIZE).network == right.network
    assert normal(concatenated(apart=True, swapped=True), SIZE).network != right.network
    assert not between(concatenated(apart=False), concatenated(apart=True), SIZE)

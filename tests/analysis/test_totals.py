"""The closed-form evaluator: one formula for nodes and totals, at any size."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.analysis.costs import node_costs
from deeplab_spec.analysis.sizes import SideRule, shapes
from deeplab_spec.analysis.terms import Sizes
from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.errors import GraphError
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Add,
    Concat,
    Conv2d,
    Input,
    Op,
    Opaque,
    Output,
    Pad,
    Pool,
    PoolKind,
    Resize,
)
from deeplab_spec.spec.backbones.xception import AtrousPadding
from deeplab_spec.spec.choices import Decoder, LogitsConv, StridePadding, choose
from deeplab_spec.spec.network import network, part, rows
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE
from tests.support.members import XCEPTIONS

EVALUATORS = {
    (variant.name, stride): Evaluator(network(variant.choices, stride))
    for variant in XCEPTIONS
    for stride in variant.output_strides
}


@given(st.sampled_from(XCEPTIONS), st.sampled_from((8, 16)), st.integers(1, 700), st.integers(1, 700))
def test_totals_are_the_sums_over_the_nodes(variant: object, stride: int, height: int, width: int) -> None:
    """The evaluator is compiled once; the other side counts every node at the size."""
    chosen = next(entry for entry in XCEPTIONS if entry is variant)
    graph = network(chosen.choices, stride)
    costs = node_costs(graph, shapes(graph, (height, width)))

    totals = EVALUATORS[chosen.name, stride](height, width)

    assert totals.operations == sum(cost.operations for cost in costs)
    assert totals.sizes == sum((cost.sizes for cost in costs), Sizes())


@pytest.mark.parametrize(
    "overrides",
    [
        {"stride_padding": StridePadding.SAME},
        {"decoder": Decoder.NONE},
        {"logits_conv": LogitsConv.K1_AFTER_RESIZE},
        {"entry_blocks": 5, "middle_blocks": 3, "width": 0.3},
    ],
    ids=lambda overrides: next(iter(overrides)),
)
def test_totals_of_other_choices_are_the_sums_over_their_nodes(overrides: dict[str, object]) -> None:
    """The same property where the graph has another form."""
    choices = choose(TF_RELEASE.choices, overrides)  # type: ignore[arg-type]
    for height, width, classes in ((513, 512, 21), (97, 130, 3), (1, 1, 1)):
        graph = network(choices, classes=classes)
        costs = node_costs(graph, shapes(graph, (height, width)))
        assert Evaluator(graph)(height, width).operations == sum(cost.operations for cost in costs)


def test_a_layer_that_shrinks_its_map_is_refused_where_the_sum_is() -> None:
    """Padding 1 at rate 2 makes the main path smaller than the skip: no size fits, and both say so."""
    graph = network(choose(TF_RELEASE.choices, {"atrous_padding": AtrousPadding.ONE}), 8)

    with pytest.raises(GraphError, match=r"block1\.add: operands must have one size"):
        Evaluator(graph)(513, 513)
    with pytest.raises(GraphError, match=r"block1\.add: operands must have one shape"):
        shapes(graph, (513, 513))


def chain(*ops: Op) -> Network:
    """Return a network of one operator after the other."""
    nodes = [Node(path="x", op=Input(channels=3))]
    for number, op in enumerate(ops):
        inputs = (nodes[-1].path,) if not isinstance(op, Resize) or op.size else (nodes[-1].path, "x")
        nodes.append(Node(path=f"op{number}", op=op, inputs=inputs))
    return Network(nodes=(*nodes, Node(path="y", op=Output(name="y"), inputs=(nodes[-1].path,))))


CONV = Conv2d(channels_in=3, channels_out=3, kernel=(3, 5), stride=(2, 3), rate=(2, 1), padding=(1, 0, 2, 3))
CHAINS = {
    "uneven window": chain(CONV, CONV),
    "same": chain(replace(CONV, padding="same"), replace(CONV, padding="same", rate=(1, 1))),
    "pool": chain(Pool(kind=PoolKind.MAX, kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1)), CONV),
    "ceil pool": chain(
        Pool(kind=PoolKind.MAX, kernel=(3, 2), stride=(2, 2), padding=(1, 1, 0, 0), ceil_mode=True), CONV
    ),
    "pad": chain(Pad(margins=(3, -1, 0, 2)), CONV),
    "resize": chain(Resize(size=(40, 50)), CONV, Resize(), CONV),
}


@given(st.sampled_from(sorted(CHAINS)), st.integers(20, 60), st.integers(20, 60))
def test_totals_follow_every_operator_that_changes_sizes(name: str, height: int, width: int) -> None:
    """Captured networks have operators that the specification does not have."""
    graph = CHAINS[name]
    costs = node_costs(graph, shapes(graph, (height, width)))

    assert Evaluator(graph)(height, width).operations == sum(cost.operations for cost in costs)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("kernel", range(1, 6))
def test_side_rule_counts_the_windows_that_fit(kernel: int, ceil: bool) -> None:  # noqa: FBT001 - a case
    """Enumerate the starts of windows; in ceil mode one may overhang unless it starts in the margin."""
    for stride, margin, size in itertools.product(range(1, 6), range(kernel // 2 + 1), range(1, 30)):
        if size + 2 * margin < kernel:
            continue
        rule = SideRule(2 * margin - kernel, stride, margin if ceil else None)
        fit = [start for start in range(-margin, size + margin, stride) if start + kernel <= size + margin]
        if ceil and fit[-1] + kernel < size + margin and fit[-1] + stride < size:
            fit.append(fit[-1] + stride)
        assert rule(size) == len(fit), (stride, margin, size)


def test_several_inputs_are_refused() -> None:
    """The decoder alone reads two maps of different sizes."""
    with pytest.raises(GraphError, match="must have one input"):
        Evaluator(part(rows(NOTEBOOK.choices, 16, 21), "decoder"))(33, 33)


def test_what_cannot_be_evaluated_is_refused() -> None:
    """Each message names the place, the rule and the value."""
    evaluator = EVALUATORS["notebook", 16]

    with pytest.raises(GraphError, match=r"input: height and width must be 1 or more, but got \(0, 5\)"):
        evaluator(0, 5)
    with pytest.raises(GraphError, match="op1: no side of a value may be empty"):
        Evaluator(chain(CONV, CONV))(6, 6)
    with pytest.raises(GraphError, match="op0: the size of an opaque operation is not known"):
        Evaluator(chain(Opaque(target="aten.fft")))


def test_joined_values_of_one_size_at_some_inputs_only_are_checked_at_each() -> None:
    """Two strides of 2 and one of 4 agree at every size; a stride of 3 only at some."""
    nodes = (
        Node(path="x", op=Input(channels=3)),
        Node(path="a", op=Conv2d(channels_in=3, channels_out=3, kernel=(1, 1), stride=(4, 4)), inputs=("x",)),
        Node(path="b", op=Conv2d(channels_in=3, channels_out=3, kernel=(1, 1), stride=(3, 3)), inputs=("x",)),
        Node(path="sum", op=Add(), inputs=("a", "b")),
        Node(path="join", op=Concat(), inputs=("a", "b")),
        Node(path="y", op=Output(name="y"), inputs=("join",)),
    )
    evaluator = Evaluator(Network(nodes=nodes))

    assert evaluator(3, 6).operations == 2 * 2 * 9
    with pytest.raises(GraphError, match="sum: operands must have one size"):
        evaluator(4, 4)

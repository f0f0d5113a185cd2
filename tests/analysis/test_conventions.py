"""The conventions as records: names, modes, units and operators; their counts, computed by hand."""

import pytest

from deeplab_spec.analysis.conventions import CONVENTIONS, FULL, FVCORE, MAC, TFPROF, TORCH, Convention
from deeplab_spec.analysis.costs import node_costs, total_cost
from deeplab_spec.analysis.counters import convention
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import (
    Add,
    BatchNorm,
    Conv2d,
    GlobalAveragePool,
    Input,
    Op,
    Opaque,
    Output,
    Pad,
    Resize,
    ResizeMode,
)
from deeplab_spec.spec.api import network
from deeplab_spec.spec.network import CLASSIFIER
from deeplab_spec.spec.variants import Variant
from tests.support.graphs import chain, with_op
from tests.support.members import KINDS
from tests.support.per_node_module import costs_of, operations

SIDES = (4, 5)
ATROUS = Conv2d(channels_in=4, channels_out=6, kernel=(3, 3), rate=(3, 2), padding=(3, 3, 2, 2), bias=True)
DEPTHWISE = Conv2d(channels_in=4, channels_out=4, kernel=(3, 3), padding=(1, 1, 1, 1), groups=4)
NORM = BatchNorm(channels=4, eps=1e-3, momentum=0.1)
# fmt: off
BY_HAND: list[tuple[Convention, Op, int]] = [
    # Of 4 channels of 4x5: an atrous convolution has 216 weights, a depthwise one 36.
    (MAC,    ATROUS, 20 * 216),
    (MAC,    DEPTHWISE, 20 * 36),
    (MAC,    NORM, 0),
    (TORCH,  ATROUS, 2 * 20 * 216),
    (TORCH,  NORM, 0),
    (FVCORE, ATROUS, 20 * 216),
    (FVCORE, NORM, 2 * 80),
    (FVCORE, BatchNorm(channels=4, eps=1e-3, momentum=0.1, affine=False), 80),
    (FVCORE, Resize(size=(6, 7)), 4 * 168),
    (FVCORE, Resize(mode=ResizeMode.NEAREST, size=(6, 7)), 168),
    (FVCORE, Resize(mode=ResizeMode.BICUBIC, size=(6, 7)), 0),
    (FVCORE, GlobalAveragePool(), 80),
    (TFPROF, ATROUS, 6 * 6 * 216 + 216 * 5 // 2),  # 4x5 padded to multiples of 3 and 2: 6x6
    (TFPROF, DEPTHWISE, 20 * 36 + 36),
    (TFPROF, Conv2d(channels_in=4, channels_out=4, rate=(3, 3)), 20 * 16 + 40),  # one tap is not atrous
    (TFPROF, GlobalAveragePool(), 40),
    (TFPROF, NORM, 0),
]
# fmt: on


@pytest.mark.parametrize(("counts", "op", "expected"), BY_HAND)
def test_what_a_convention_counts_of_one_operator_by_hand(counts: Convention, op: Op, expected: int) -> None:
    """Each figure is the product that its comment and the title of the convention name."""
    assert operations(costs_of(chain(op), SIDES, counts))["n1"] == expected


def test_tfprof_counts_halves_of_the_image_of_sums_and_of_the_logits_biases() -> None:
    """One per element of the image, one half per element of a sum and of a bias of the logits."""
    nodes = (
        Node(path="x", op=Input(channels=3)),
        Node(path="sum", op=Add(), inputs=("x", "x")),
        Node(path=CLASSIFIER, op=Conv2d(channels_in=3, channels_out=5, bias=True), inputs=("sum",)),
        Node(path="y", op=Output(name=""), inputs=(CLASSIFIER,)),
    )
    graph = Network(nodes=nodes)
    unbiased = with_op(graph, CLASSIFIER, bias=False)

    counted = operations(costs_of(graph, (1, 5), TFPROF))
    assert counted == {"x": 15, "sum": 7.5, CLASSIFIER: 5 * 15 + 15 * 5 / 2 + 12.5, "y": 0}
    assert operations(costs_of(unbiased, (1, 5), TFPROF))[CLASSIFIER] == 5 * 15 + 15 * 5 / 2
    assert sum(cost.once for cost in costs_of(graph, (1, 5), TFPROF)) == 15 * 5 / 2


@pytest.mark.parametrize("counts", [MAC, TORCH], ids=lambda entry: entry.name)
def test_a_training_step_counts_a_convolution_thrice_and_the_first_twice(counts: Convention) -> None:
    """No gradient flows to the image."""
    graph = chain(DEPTHWISE, ATROUS)
    once, step = (operations(costs_of(graph, SIDES, counts, mode)) for mode in Mode)

    assert (step["n1"], step["n2"]) == (2 * once["n1"], 3 * once["n2"])


@pytest.mark.parametrize("counts", CONVENTIONS, ids=lambda entry: entry.name)
@pytest.mark.parametrize("variant", KINDS, ids=lambda variant: variant.name)
def test_totals_of_every_convention_are_the_sums_over_the_nodes(variant: Variant, counts: Convention) -> None:
    """The evaluator and the nodes have one formula."""
    for mode in counts.modes:
        for height, width, classes in ((513, 512, 21), (97, 130, 3)):
            graph = network(variant.name, 16, classes)
            total = total_cost(costs_of(graph, (height, width), counts, mode))
            found = Evaluator(graph, counts, mode)(height, width)
            assert (found.operations, found.once) == (total.operations, total.once)


def test_a_convention_that_counts_no_backward_pass_says_which_do() -> None:
    """A wrong mode is refused before anything is counted."""
    for counts in CONVENTIONS:
        if Mode.TRAIN in counts.modes:
            counts.require(Mode.TRAIN)
    with pytest.raises(SpecError, match="fvcore counts no backward pass; train needs one of mac, full, torch"):
        FVCORE.require(Mode.TRAIN)
    with pytest.raises(SpecError, match="tfprof counts no backward pass"):
        costs_of(chain(NORM), SIDES, TFPROF, Mode.TRAIN)


def test_a_convention_is_found_by_its_name_and_an_unknown_name_lists_them() -> None:
    """Names are as on the command line."""
    assert [convention(entry.name) for entry in CONVENTIONS] == list(CONVENTIONS)
    assert len({entry.name for entry in CONVENTIONS}) == len(CONVENTIONS)
    with pytest.raises(SpecError, match=r"must be one of mac, full, fvcore, torch, tfprof, .* but got 'macs'"):
        convention("macs")


def test_what_no_formula_knows_is_skipped_and_named_by_every_convention() -> None:
    """An opaque operation counts nothing and is reported as skipped; fvcore does not know a pad."""
    graph = chain(Opaque(target="aten.fft"), Pad(margins=(0, 0, 0, 0)))
    known = dict.fromkeys(("x", "n1", "n2", "y"), (4, *SIDES))
    for counts in (MAC, FULL, FVCORE, TORCH, TFPROF):
        costs = node_costs(graph, known, counts)
        assert total_cost(costs).skipped == {"aten.fft": 1} | ({"aten::pad": 1} if counts is FVCORE else {})
        assert costs[1].operations == costs[1].flops == costs[1].bytes_read == 0

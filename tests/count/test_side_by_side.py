"""Two networks side by side: their differences, and the convention under which they agree."""

from dataclasses import replace

import pytest

from deeplab_spec.analysis.conventions import CONVENTIONS, FULL, FVCORE, MAC, TORCH, Convention
from deeplab_spec.analysis.costs import Cost, block_costs, node_costs, total_cost
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.count.side_by_side import Counter, operations_explained, parameters_explained, side_by_side
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import BatchNorm, Conv2d
from deeplab_spec.spec.choices import ChoiceValue, choose, read_overrides
from deeplab_spec.spec.network import network
from deeplab_spec.spec.variants import NOTEBOOK, TF_RELEASE

SIZE = (65, 97)


def graph(*overrides: str, variant: object = TF_RELEASE) -> Network:
    """Return a published network with overridden choices."""
    chosen = NOTEBOOK if variant is NOTEBOOK else TF_RELEASE
    decided: dict[str, ChoiceValue] = read_overrides(overrides, TF_RELEASE.family)
    return network(choose(chosen.choices, decided))


def counter(counted: Network, mode: Mode = Mode.FORWARD) -> Counter:
    """Return the counter of a network."""
    return lambda convention: node_costs(counted, shapes(counted, SIZE), convention, mode)


def folded(unfolded: Network) -> Network:
    """Return the network with every normalisation folded into the convolution before it."""
    instead: dict[str, str] = {}
    nodes = []
    for node in unfolded:
        inputs = tuple(instead.get(path, path) for path in node.inputs)
        if isinstance(node.op, BatchNorm):
            instead[node.path] = inputs[0]
        elif isinstance(node.op, Conv2d):
            nodes.append(replace(node, op=replace(node.op, bias=True), inputs=inputs))
        else:
            nodes.append(replace(node, inputs=inputs))
    return Network(nodes=tuple(nodes))


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda convention: convention.name)
def test_equal_networks_are_equal_under_the_requested_convention(convention: Convention) -> None:
    """No other convention is needed."""
    counted = counter(graph())

    assert operations_explained(counted, counted, convention, Mode.FORWARD) == f"equal under {convention.name}"


def test_a_folded_network_is_explained_by_its_missing_normalisations() -> None:
    """Under fvcore the networks differ by the normalisations; under full also by biases; under mac not at all."""
    first, second = counter(graph()), counter(folded(graph()))

    assert operations_explained(first, second, FVCORE, Mode.FORWARD) == "equal under fvcore minus batch_norm"
    assert operations_explained(first, second, MAC, Mode.FORWARD) == "equal under mac"
    assert operations_explained(first, second, FULL, Mode.FORWARD) == "equal under mac"
    totals = [total_cost(count(MAC)) for count in (first, second)]
    assert parameters_explained(*totals) == "equal in parameters with normalisations folded"


def test_two_kinds_of_operator_can_be_left_out() -> None:
    """Here a resize and the normalisations differ."""
    first = counter(graph())
    second = counter(folded(graph("output_resize=nearest", "decoder_resize=nearest")))

    text = operations_explained(first, second, FVCORE, Mode.FORWARD)

    assert text.startswith("equal under ")
    assert "conv" not in text.split()[2:]


def test_networks_that_differ_in_convolutions_are_not_explained() -> None:
    """Without convolutions any two networks are equal."""
    first, second = counter(graph()), counter(graph("aspp_convs=dense"))

    assert operations_explained(first, second, MAC, Mode.FORWARD) == ""
    assert parameters_explained(total_cost(first(MAC)), total_cost(second(MAC))) == ""


def test_cost_moved_between_blocks_is_reported() -> None:
    """Equal totals can hide blocks that differ."""
    whole = graph()
    first = "backbone.middle_flow.block3.sepconv2.depthwise.conv"
    second = "backbone.middle_flow.block9.sepconv2.depthwise.conv"
    kernels = {first: (3, 1), second: (3, 5)}
    moved = whole.with_nodes(
        replace(
            node,
            op=replace(
                node.op, kernel=kernels[node.path], padding=(1, 1, 0, 0) if node.path == first else (1, 1, 2, 2)
            ),
        )
        if node.path in kernels and isinstance(node.op, Conv2d)
        else node
        for node in whole
    )

    text = operations_explained(counter(whole), counter(moved), MAC, Mode.FORWARD)

    assert text == "equal under mac, in total only: blocks differ"


def test_dead_biases_explain_parameters() -> None:
    """The source document has 93,928 biases without effect before normalisations."""
    with_biases = total_cost(counter(graph(variant=NOTEBOOK))(MAC))
    without = total_cost(counter(graph("conv_bias=none", variant=NOTEBOOK))(MAC))

    assert parameters_explained(with_biases, without) == "equal in parameters without dead biases"


def test_running_statistics_counted_as_parameters_are_recognised() -> None:
    """Some published tables count them."""
    cost = total_cost(counter(graph())(MAC))
    both = cost.sizes.parameters + cost.sizes.buffers
    changed = replace(cost, sizes=replace(cost.sizes, parameters=both, buffers=9))

    expected = "the parameters with running statistics of the first are the parameters of the second"
    assert parameters_explained(cost, changed) == expected


def test_rows_start_with_the_largest_difference_and_are_complete() -> None:
    """Blocks that are missing on one side count as zero there."""
    first, second = (block_costs(counter(graph(*overrides))(MAC)) for overrides in ((), ("middle_blocks=8",)))

    rows = side_by_side(first, second)

    distances = [abs(row.macs[0] - row.macs[1]) for row in rows]
    assert distances == sorted(distances, reverse=True)
    assert {row.path for row in rows} == {cost.path for cost in (*first, *second)}
    assert rows[0].macs[1] == 0
    assert sum(row.macs[0] for row in rows) == total(first)
    assert sum(row.macs[1] for row in rows) == total(second)


def total(costs: tuple[Cost, ...]) -> float:
    """Return the operations of all."""
    return sum(cost.operations for cost in costs)


def test_training_is_explained_by_conventions_that_support_it() -> None:
    """Fvcore and tfprof do not count a backward pass and are not tried."""
    first, second = counter(graph(), Mode.TRAIN), counter(folded(graph()), Mode.TRAIN)

    assert operations_explained(first, second, TORCH, Mode.TRAIN) == "equal under torch"

"""A fault of an operator changes the attribute that it names; planted faults draw one fault of each attribute."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.analysis.sizes import explicit_padding
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    BatchNorm,
    Concat,
    Conv2d,
    Dropout,
    GlobalAveragePool,
    Op,
    Resize,
    ResizeMode,
    margins,
)
from deeplab_spec.mutate.faults.nodes import planted_fault
from deeplab_spec.mutate.faults.operators import operator_faults, planted_operator
from tests.support.graphs import chain
from tests.support.strategies import rates

CONV = Conv2d(channels_in=4, channels_out=4, kernel=(3, 3), padding=margins(1))
NORM = BatchNorm(channels=4, eps=1e-3, momentum=0.1)
LEAKY = Activation(kind=ActivationKind.LEAKY_RELU, slope=0.01)


@pytest.mark.parametrize(
    ("op", "attribute", "also"),
    [
        (CONV, "rate", {"padding"}),
        (CONV, "kernel", {"padding"}),
        (CONV, "padding", set()),
        (CONV, "stride", set()),
        (CONV, "bias", set()),
        (CONV, "channels_out", set()),
        (NORM, "eps", set()),
        (BatchNorm(channels=4, eps=1e-5, momentum=0.1), "eps", set()),
        (NORM, "affine", set()),
        (Activation(), "kind", set()),
        (Activation(kind=ActivationKind.RELU6), "kind", set()),
        (Activation(), "slope", {"kind"}),
        (LEAKY, "slope", set()),
        (Resize(), "align_corners", set()),
    ],
    ids=lambda item: item if isinstance(item, str) else type(item).__name__,
)
def test_a_planted_fault_changes_one_attribute(op: Op, attribute: str, also: set[str]) -> None:
    """And the padding that keeps the map's size, or the kind that has a slope."""
    faulty = planted_operator(op, attribute)

    assert faulty is not None
    changed = {field.name for field in fields(op) if getattr(op, field.name) != getattr(faulty, field.name)}
    assert changed == {attribute} | also


@pytest.mark.parametrize(
    ("op", "attribute"),
    [
        (Conv2d(channels_in=4, channels_out=4), "rate"),
        (Resize(mode=ResizeMode.NEAREST), "align_corners"),
        (Concat(), "eps"),
    ],
)
def test_a_fault_that_would_not_show_is_not_planted(op: Op, attribute: str) -> None:
    """A single tap has no rate, and nearest neighbours have no corners to align."""
    assert planted_operator(op, attribute) is None


@given(kernel=st.sampled_from([3, 5]), rate=rates, stride=st.integers(1, 2), side=st.integers(1, 40))
def test_another_rate_or_kernel_gives_the_same_map(kernel: int, rate: int, stride: int, side: int) -> None:
    """Otherwise the shape would show the fault, and not the values."""
    margin = rate * (kernel - 1) // 2
    right = Conv2d(
        channels_in=1,
        channels_out=1,
        kernel=(kernel, kernel),
        rate=(rate, rate),
        stride=(stride, stride),
        padding=margins(margin),
    )

    for attribute in ("rate", "kernel"):
        faulty = planted_operator(right, attribute)
        assert isinstance(faulty, Conv2d)
        assert _size(faulty, side) == _size(right, side)


def _size(op: Conv2d, side: int) -> int:
    top, bottom, _, _ = explicit_padding(op.padding, (side, side), op.kernel, op.stride, op.rate)
    reach = op.rate[0] * (op.kernel[0] - 1) + 1
    return (side + top + bottom - reach) // op.stride[0] + 1


@pytest.mark.parametrize("op", [CONV, NORM, Activation(), Resize(), Dropout(probability=0.1), GlobalAveragePool()])
def test_every_fault_of_an_operator_is_another_operator(op: Op) -> None:
    """With a kind of its own; at most one fault of an attribute is planted."""
    faults = list(operator_faults(op))

    assert all(fault.op != op for fault in faults)
    assert len({fault.kind for fault in faults}) == len(faults)
    planted = [fault.attribute for fault in faults if fault.planted]
    assert len(set(planted)) == len(planted)


def test_only_a_node_of_one_input_is_left_out() -> None:
    """A node that joins several inputs cannot be left out."""
    graph = chain(CONV, NORM)

    words, faulty = planted_fault(graph, graph["n2"], "node") or ("", graph)
    assert words == "n2 left out"
    assert "n2" not in faulty
    assert planted_fault(graph, graph["y"], "node") is None

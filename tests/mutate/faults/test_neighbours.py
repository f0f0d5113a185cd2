"""The wrong neighbour of an operation differs from it in what is named, and in nothing that follows."""

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
    Op,
    Resize,
    ResizeMode,
    margins,
)
from deeplab_spec.mutate.faults.neighbours import edited, other
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
def test_one_attribute_is_wrong(op: Op, attribute: str, also: set[str]) -> None:
    """And what keeps the map as it was."""
    wrong = other(op, attribute)

    assert wrong is not None
    changed = {field.name for field in fields(op) if getattr(op, field.name) != getattr(wrong, field.name)}
    assert changed == {attribute} | also


@pytest.mark.parametrize(
    ("op", "attribute"),
    [
        (Conv2d(channels_in=4, channels_out=4), "rate"),
        (Resize(mode=ResizeMode.NEAREST), "align_corners"),
        (Concat(), "eps"),
    ],
)
def test_what_would_not_show_is_not_made_wrong(op: Op, attribute: str) -> None:
    """A single tap has no rate, a broadcast no corners."""
    assert other(op, attribute) is None


@given(kernel=st.sampled_from([3, 5]), rate=rates, stride=st.integers(1, 2), side=st.integers(1, 40))
def test_another_rate_or_kernel_gives_the_same_map(kernel: int, rate: int, stride: int, side: int) -> None:
    """Else its shape would be found, and not its values."""
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
        wrong = other(right, attribute)
        assert isinstance(wrong, Conv2d)
        assert _size(wrong, side) == _size(right, side)


def _size(op: Conv2d, side: int) -> int:
    top, bottom, _, _ = explicit_padding(op.padding, (side, side), op.kernel, op.stride, op.rate)
    reach = op.rate[0] * (op.kernel[0] - 1) + 1
    return (side + top + bottom - reach) // op.stride[0] + 1


def test_a_node_that_is_left_out_is_one_of_a_single_input() -> None:
    """What joins others cannot be left out."""
    graph = chain(CONV, NORM)

    words, wrong = edited(graph, graph.readers(), graph["n2"], "node") or ("", graph)
    assert words == "n2 left out"
    assert "n2" not in wrong
    assert edited(graph, graph.readers(), graph["y"], "node") is None

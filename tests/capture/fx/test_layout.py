"""A layout describes the order of elements exactly as the framework's calls produce it."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deeplab_spec.capture.fx.layout import Layout, identity_layout
from tests.support.assertions import assert_same

SHAPE = (2, 3, 4, 6)
BASE = torch.arange(2 * 3 * 4 * 6).view(SHAPE)
FACTORS = ((144,), (6, 24), (2, 3, 24), (12, 12), (2, 3, 2, 2, 6), (1, 8, 18), (2, 3, 2, 2, 3, 2), (4, 36), (48, 3))


@st.composite
def moved(draw: st.DrawFn) -> tuple[Layout, Tensor]:
    """Draw a few reshapes and permutations, as a layout and as a tensor."""
    layout, value = identity_layout(SHAPE), BASE
    for _ in range(draw(st.integers(0, 4), label="moves")):
        order = draw(st.permutations(range(value.ndim)), label="order")
        shape = draw(st.sampled_from((SHAPE, *FACTORS)), label="shape")
        layout, value = layout.permuted(order), value.permute(order)
        reshaped = layout.reshaped(shape)
        if reshaped is not None:
            layout, value = reshaped, value.reshape(shape)
    return layout, value


@given(moved())
def test_a_layout_places_elements_as_the_calls_do(case: tuple[Layout, Tensor]) -> None:
    """Also the inverse; it is the identity only if nothing moved."""
    layout, value = case

    assert layout.shape == tuple(value.shape)
    assert_same(layout.place(BASE), value, "placed")
    assert_same(layout.back(value), BASE, "back")
    assert layout.identity == (value.shape == BASE.shape and torch.equal(value, BASE))


@given(moved())
def test_a_strided_layout_is_a_view(case: tuple[Layout, Tensor]) -> None:
    """Writing to it writes to the base."""
    layout, _ = case
    if layout.strided:
        assert layout.place(BASE).untyped_storage().data_ptr() == BASE.untyped_storage().data_ptr()


def test_a_reshape_that_cuts_pieces_unevenly_is_refused() -> None:
    """No layout describes it, so the call is kept as it is."""
    swapped = identity_layout((4, 6)).permuted((1, 0))

    assert swapped.reshaped((4, 6)) is None
    assert swapped.reshaped((5, 5)) is None
    assert identity_layout((0, 6)).reshaped((0, 6)) is None

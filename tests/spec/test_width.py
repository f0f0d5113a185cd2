"""The width rule keeps every two channel counts apart."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.spec.width import BASE_CHANNELS, scaled_channels


@given(st.floats(1e-6, 4, allow_subnormal=False))
def test_counts_stay_in_order_and_pairwise_different(width: float) -> None:
    """A fault that mixes two channel counts stays visible in a narrow network."""
    scaled = list(scaled_channels(width).values())

    assert all(left < right for left, right in itertools.pairwise(scaled))
    assert scaled[0] > 3


@given(st.floats(0.2, 4))
def test_counts_are_rounded_products_where_they_are_far_apart(width: float) -> None:
    """At ordinary widths nothing is raised: the rule is a multiplication, rounded half up."""
    scaled = scaled_channels(width)

    assert scaled == {channels: int(channels * width + 0.5) for channels in BASE_CHANNELS}

"""A convolution that cannot be computed cannot be written down."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplab_spec.errors import GraphError
from deeplab_spec.graph.ops import Conv2d, Opaque, kind, margins


@given(
    count=st.integers(1, 6),
    per_group=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    group=st.integers(2, 7),
)
def test_groups_divide_both_channel_counts_or_are_refused(count: int, per_group: tuple[int, int], group: int) -> None:
    """Every group has the same channels."""
    channels_in, channels_out = (count * channels for channels in per_group)
    conv = Conv2d(channels_in=channels_in, channels_out=channels_out, groups=count)

    assert conv.depthwise == (count > 1 and per_group[0] == 1)
    if channels_in % group or channels_out % group:
        with pytest.raises(GraphError, match="groups must divide both channel counts"):
            Conv2d(channels_in=channels_in, channels_out=channels_out, groups=group)


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"channels_in": 0}, "channels and groups must be positive"),
        ({"channels_out": 0}, "channels and groups must be positive"),
        ({"groups": 0}, "channels and groups must be positive"),
        ({"kernel": (0, 1)}, "kernel, stride and rate must be positive"),
        ({"stride": (1, 0)}, "kernel, stride and rate must be positive"),
        ({"rate": (-1, 1)}, "kernel, stride and rate must be positive"),
    ],
)
def test_a_size_below_one_is_refused(fields: dict[str, Any], rule: str) -> None:
    """Each field is refused alone, with its rule."""
    with pytest.raises(GraphError, match=rule):
        Conv2d(**{"channels_in": 1, "channels_out": 1, **fields})


@given(taps=st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_pointwise_means_a_single_tap(taps: tuple[int, int]) -> None:
    """A 1x3 kernel has neighbours."""
    assert Conv2d(channels_in=1, channels_out=1, kernel=taps).pointwise == (taps[0] * taps[1] == 1)


def test_kinds_are_the_names_of_the_records() -> None:
    """Reports name an operation by its record."""
    assert kind(Conv2d(channels_in=1, channels_out=1)) == "Conv2d"
    assert kind(Opaque(target="aten.sin")) == "Opaque"
    assert len(set(margins(2))) == 1

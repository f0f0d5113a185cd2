"""The operators that move elements and compute nothing."""

from collections.abc import Callable
from math import prod
from typing import Any, Final

import torch
from torch import fx

from deeplab_spec.capture.fx.layout import Layout
from deeplab_spec.capture.fx.operators import Call, operator_name, read_call, shape_of

_RESHAPES: Final = frozenset(
    {
        *("view", "_unsafe_view", "reshape", "view_as", "reshape_as", "_reshape_alias"),
        *("flatten", "unflatten", "squeeze", "unsqueeze", "ravel"),
        *("select", "slice", "expand", "expand_as", "repeat", "tile"),
    }
)
"""Operators that keep the order of elements, where they keep their number."""

_PERMUTES: Final = frozenset(
    {"permute", "transpose", "t", "movedim", "moveaxis", "swapaxes", "swapdims", "mT", "numpy_T"}
)


def move(node: fx.Node, layout: Layout) -> Layout | None:
    """Return where a call puts the elements of its first argument; None if it computes something.

    Args:
        node: The call.
        layout: Where its first argument has them.
    """
    name = operator_name(node)
    result = shape_of(node)
    if name in _RESHAPES:
        return layout.reshaped(result) if prod(result) == prod(layout.base) else None
    if name in _PERMUTES:
        return layout.permuted(_order(node, len(layout.axes)))
    if name in {"pixel_unshuffle", "pixel_shuffle"}:
        return _shuffled(read_call(node), layout, name)
    return None


def _order(node: fx.Node, rank: int) -> tuple[int, ...]:
    """Return the order that a call brings axes into: it says so itself, on a tensor without values."""
    probe = torch.empty(tuple(range(2, 2 + rank)), device="meta")
    function: Callable[..., Any] = node.target  # type: ignore[assignment]  # a call_function node
    return tuple(side - 2 for side in function(probe, *node.args[1:], **node.kwargs).shape)


def _shuffled(call: Call, layout: Layout, name: str) -> Layout | None:
    *batch, channels, height, width = layout.shape
    axes = list(range(len(batch)))
    first = len(batch)
    if name == "pixel_unshuffle":
        side = call["downscale_factor"]
        apart = layout.reshaped((*batch, channels, height // side, side, width // side, side))
        order = (*axes, first, first + 2, first + 4, first + 1, first + 3)
    else:
        side = call["upscale_factor"]
        apart = layout.reshaped((*batch, channels // side**2, side, side, height, width))
        order = (*axes, first, first + 3, first + 1, first + 4, first + 2)
    return apart.permuted(order).reshaped(call.result) if apart else None

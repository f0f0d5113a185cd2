"""Calls that move elements and compute nothing: reshapes, permutations, and ranges of channels."""

from collections.abc import Callable
from itertools import accumulate
from math import prod
from typing import Any, Final

import torch
from torch import fx

from deeplab_spec.capture.fx.calls import Call, is_call_of, operator_name, read_call, shape_of
from deeplab_spec.capture.fx.layout import CHANNELS, MAP_RANK, Layout
from deeplab_spec.graph.ops import Op, Opaque

_RESHAPES: Final = frozenset(
    {
        *("view", "_unsafe_view", "reshape", "view_as", "reshape_as", "_reshape_alias"),
        *("flatten", "unflatten", "squeeze", "unsqueeze", "ravel"),
        *("select", "slice", "expand", "expand_as", "repeat", "tile"),
    }
)
"""Operators that keep the order of elements if they keep their number."""

_PERMUTES: Final = frozenset(
    {"permute", "transpose", "t", "movedim", "moveaxis", "swapaxes", "swapdims", "mT", "numpy_T"}
)

_RANGE_TARGET: Final = "channels"
_SPLITS: Final = frozenset({"split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk"})


def move(node: fx.Node, layout: Layout) -> Layout | None:
    """Return the layout of a call's result; None if the call computes something.

    Args:
        node: The call.
        layout: The layout of its first argument.
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
    """Return the order into which a call permutes axes, by running it on a meta tensor of distinct sides."""
    probe = torch.empty(tuple(range(2, 2 + rank)), device="meta")
    function: Callable[..., Any] = node.target  # type: ignore[assignment]  # a call_function node
    return tuple(side - 2 for side in function(probe, *node.args[1:], **node.kwargs).shape)


def _shuffled(call: Call, layout: Layout, name: str) -> Layout | None:
    *batch, channels, height, width = layout.shape
    first = len(batch)
    if name == "pixel_unshuffle":
        side = call["downscale_factor"]
        split = layout.reshaped((*batch, channels, height // side, side, width // side, side))
        order = (0, 2, 4, 1, 3)
    else:
        side = call["upscale_factor"]
        split = layout.reshaped((*batch, channels // side**2, side, side, height, width))
        order = (0, 3, 1, 4, 2)
    return split.permuted((*range(first), *(first + axis for axis in order))).reshaped(call.result) if split else None


def part_of_channels(node: fx.Node) -> tuple[fx.Node, Opaque] | None:
    """Return the value of which a call takes a range of channels, and the operation; None for any other call."""
    source, axis, start = _range(node) or (None, 0, 0)
    if source is None or len(shape_of(source)) != MAP_RANK or axis % MAP_RANK != CHANNELS:
        return None
    before, after = shape_of(source), shape_of(node)
    if before[2:] != after[2:] or before[0] != after[0]:
        return None
    first = start + before[CHANNELS] if start < 0 else start
    return source, channel_range(first, first + after[CHANNELS])


def channel_range(start: int, stop: int) -> Opaque:
    """Return the operation that takes a range of channels.

    >>> range_of(channel_range(2, 5))
    (2, 5)
    """
    return Opaque(target=_RANGE_TARGET, detail=f"{start}:{stop}")


def range_of(op: Op) -> tuple[int, int] | None:
    """Return the range of channels that an operation takes; None for any other operation."""
    if not isinstance(op, Opaque) or op.target != _RANGE_TARGET:
        return None
    start, _, stop = op.detail.partition(":")
    return int(start), int(stop)


def _range(node: fx.Node) -> tuple[fx.Node, int, int] | None:
    """Return the source of a range, its axis and its first index."""
    if operator_name(node) == "getitem":
        return _element_of_split(node)
    if not is_call_of(node, {"slice", "narrow"}):
        return None
    call = read_call(node)
    if call.arguments.get("step", 1) != 1 or not isinstance(call["start"] or 0, int):
        return None
    return call["self"], call["dim"], call["start"] or 0


def _element_of_split(node: fx.Node) -> tuple[fx.Node, int, int] | None:
    split, number = node.args[:2]
    if not isinstance(split, fx.Node) or not is_call_of(split, _SPLITS) or not isinstance(number, int):
        return None
    call = read_call(split)
    axis = call.arguments.get("dim", 0)
    starts = list(accumulate((int(value.shape[axis]) for value in split.meta["val"]), initial=0))[:-1]
    return call["self"], axis, starts[number]

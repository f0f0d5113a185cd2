"""The operators that move elements and compute nothing."""

from collections.abc import Callable
from itertools import pairwise
from math import prod
from typing import Any, Final

import torch
from torch import fx

from deeplab_spec.capture.fx.layout import CHANNELS, MAP_RANK, Layout
from deeplab_spec.capture.fx.operators import Call, calls, operator_name, read_call, shape_of
from deeplab_spec.graph.ops import Op, Opaque

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


_TARGET: Final = "channels"
_SPLITS: Final = frozenset({"split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk"})


def part_of_channels(node: fx.Node) -> tuple[fx.Node, Opaque] | None:
    """Return the value that a call takes a range of channels of, and the record of that; None if it does not."""
    source, axis, start = _range(node) or (None, 0, 0)
    if source is None or len(shape_of(source)) != MAP_RANK or axis % MAP_RANK != CHANNELS:
        return None
    whole, taken = shape_of(source), shape_of(node)
    if whole[2:] != taken[2:] or whole[0] != taken[0]:
        return None
    first = start + whole[CHANNELS] if start < 0 else start
    return source, channel_range(first, first + taken[CHANNELS])


def channel_range(start: int, stop: int) -> Opaque:
    """Return the record of a range of channels.

    >>> range_of(channel_range(2, 5))
    (2, 5)
    """
    return Opaque(target=_TARGET, detail=f"{start}:{stop}")


def range_of(op: Op) -> tuple[int, int] | None:
    """Return the channels that an operation takes; None if it is another operation."""
    if not isinstance(op, Opaque) or op.target != _TARGET:
        return None
    start, _, stop = op.detail.partition(":")
    return int(start), int(stop)


def _range(node: fx.Node) -> tuple[fx.Node, int, int] | None:
    """Return what a call reads, along which axis, and from where on."""
    if operator_name(node) == "getitem":
        return _element(node)
    if not calls(node, {"slice", "narrow"}):
        return None
    call = read_call(node)
    if call.arguments.get("step", 1) != 1 or not isinstance(call["start"] or 0, int):
        return None
    return call["self"], call["dim"], call["start"] or 0


def _element(node: fx.Node) -> tuple[fx.Node, int, int] | None:
    """Read the element of a list of ranges."""
    split, number = node.args[:2]
    if not isinstance(split, fx.Node) or not calls(split, _SPLITS) or not isinstance(number, int):
        return None
    call = read_call(split)
    return _source(call), call.arguments.get("dim", 0), _starts(call)[number]


def _source(call: Call) -> fx.Node:
    source: fx.Node = call["self"]
    return source


def _starts(call: Call) -> list[int]:
    """Return where each range of a list begins."""
    sides = [int(value.shape[call.arguments.get("dim", 0)]) for value in call.node.meta["val"]]
    starts = [0]
    for side in sides:
        starts.append(starts[-1] + side)
    return [start for start, _ in pairwise(starts)]

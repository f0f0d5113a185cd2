"""Translates calls that move elements and compute nothing, and calls whose arguments are reordered or have fewer axes.

Calls that move elements are reshapes, permutations, and ranges of channels.

A matrix product over channels is a 1x1 convolution in any order of the pixels. A convolution of every
``r``-th pixel, with the other pixels in the batch, has rate ``r``. An element-wise operation is the same
in any order. Every rule returns the operation on the bases, which are batches of maps, and the layout
of the call's own result.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from math import prod
from typing import Any, Final

import torch
from torch import fx
from torch._ops import OpOverload

from deeplab_spec.capture.fx.calls import Call, Translation, is_call_of, operator_name, read_call, shape_of
from deeplab_spec.capture.fx.equivalent_calls import RELUS, hard_argument, translate_product
from deeplab_spec.capture.fx.layout import CHANNELS, HEIGHT, WIDTH, Arguments, Atom, Layout, full_axis, with_channels
from deeplab_spec.capture.fx.operators import ELEMENT_WISE, rule_of
from deeplab_spec.graph.ops import (
    MAP_RANK,
    Activation,
    ActivationKind,
    Add,
    Concat,
    Conv2d,
    GlobalAveragePool,
    Multiply,
    Op,
    Opaque,
    Pair,
)

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
    """Return the layout of a call's result, given that of its first argument; None if the call computes something."""
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


def translate_with_layouts(node: fx.Node, arguments: Arguments) -> Translation | None:
    """Return the operation of a call on the bases of its arguments; None if no rule knows the call."""
    if not isinstance(node.target, OpOverload):
        return None
    name = operator_name(node).removesuffix("_")
    call = read_call(node)
    if name in ELEMENT_WISE:
        return _same_layout(call, arguments.map(node.args[0]))
    rule = _TABLE.get(name)
    return rule(call, arguments) if rule else translate_product(call, arguments)


def _same_layout(call: Call, layout: Layout | None) -> Translation | None:
    """Translate a call by the table of operators; its result has the layout of its argument."""
    rule = rule_of(call.node)
    translation = rule(call) if rule and layout else None
    return replace(translation, result=layout) if translation else None


def _batch_norm(call: Call, arguments: Arguments) -> Translation | None:
    layout = arguments.map(call["input"])
    if layout is None or layout.axes[1] != full_axis(CHANNELS, layout.base[CHANNELS]):
        return None
    return _same_layout(call, layout)


def _add(call: Call, arguments: Arguments) -> Translation | None:
    layout = arguments.map(call["self"])
    if layout is None or call["alpha"] != 1 or arguments.map(call["other"]) != layout:
        return None
    return Translation(Add(), (call["self"], call["other"]), result=layout)


def _mul(call: Call, arguments: Arguments) -> Translation | None:
    """Translate an activation that is written as a product, or the product of a map and a factor per channel."""
    activation = _relu(call, arguments) or _hard(call, arguments)
    if activation:
        return activation
    for value, other in ((call["self"], call["other"]), (call["other"], call["self"])):
        factor = read_call(other)["self"] if is_call_of(other, {"expand", "expand_as"}) else other
        layout, single = arguments.map(value), arguments.map(factor)
        if layout is not None and single is not None and _is_factor(single, layout) and layout.shape == call.result:
            return Translation(Multiply(), (value, factor), result=layout)
    return None


def _is_factor(single: Layout, layout: Layout) -> bool:
    """Tell whether a layout is that of one pixel, with its channels where another layout has them."""
    pixels = {HEIGHT, WIDTH}
    axes = tuple(() if {atom.axis for atom in axis} <= pixels else axis for axis in layout.axes)
    return single == Layout((*layout.base[:2], 1, 1), axes)


def _concat(call: Call, arguments: Arguments) -> Translation | None:
    layouts = [layout for tensor in call["tensors"] if (layout := arguments.map(tensor)) is not None]
    if len(layouts) != len(call["tensors"]):
        return None
    axis = call["dim"] % len(layouts[0].axes)
    total = sum(layout.base[CHANNELS] for layout in layouts)
    results = {with_channels(layout, axis, total) for layout in layouts}
    result = results.pop()
    return Translation(Concat(), tuple(call["tensors"]), result=result) if result and not results else None


def _mean(call: Call, arguments: Arguments) -> Translation | None:
    """Translate a mean over all pixels, also one side after the other."""
    means = [call]
    while is_call_of(means[-1]["self"], {"mean"}):
        means.append(read_call(means[-1]["self"]))
    source = means[-1]["self"]
    layout = arguments.map(source)
    if layout is None:
        return None
    axes, averaged = list(layout.axes), 1
    for mean in reversed(means):
        over = {axis % len(axes) for axis in mean.arguments.get("dim") or range(len(axes))}
        atoms = [atom for axis in over for atom in axes[axis]]
        if mean["dtype"] is not None or any(atom.axis not in {HEIGHT, WIDTH} for atom in atoms):
            return None
        averaged *= prod(atom.size for atom in atoms)
        kept = [() if number in over else axis for number, axis in enumerate(axes)]
        axes = [axis for number, axis in enumerate(kept) if mean.arguments.get("keepdim") or number not in over]
    if averaged != layout.base[HEIGHT] * layout.base[WIDTH]:
        return None
    return Translation(GlobalAveragePool(), (source,), result=Layout((*layout.base[:2], 1, 1), tuple(axes)))


def _sum_divided(call: Call, arguments: Arguments) -> Translation | None:
    """Translate a sum over all pixels that is divided by their number."""
    total, count = call["self"], call["other"]
    if not is_call_of(total, {"sum"}) or not isinstance(count, int | float):
        return None
    summed = read_call(total).arguments
    source, axes = summed["self"], {axis % MAP_RANK for axis in summed.get("dim") or ()}
    layout = arguments.map(source)
    if layout is None or not layout.identity or axes != {HEIGHT, WIDTH} or not summed.get("keepdim"):
        return None
    pixels = layout.base[HEIGHT] * layout.base[WIDTH]
    return Translation(GlobalAveragePool(), (source,)) if count == pixels else None


def _convolution(call: Call, arguments: Arguments) -> Translation | None:
    if call.arguments.get("transposed"):
        return None
    return translate_product(call, arguments) or _space_to_batch(call, arguments)


def _space_to_batch(call: Call, arguments: Arguments) -> Translation | None:
    """Translate a convolution of maps whose rows and columns are distributed over the batch."""
    layout, rule = arguments.map(call["input"]), rule_of(call.node)
    translation = rule(call) if rule and layout else None
    if translation is None or layout is None or len(layout.axes) != MAP_RANK:
        return None
    resized = with_channels(layout, CHANNELS, call.result[CHANNELS])
    op, distance = translation.op, _pixel_distance(layout)
    if resized is None or distance is None or not isinstance(op, Conv2d) or op.padding == "same":
        return None
    if any(step > 1 < pixels for step, pixels in zip(op.stride, distance, strict=True)):
        return None
    sides = [pixels * side for pixels, side in zip(distance, call.result[HEIGHT:], strict=True)]
    axes = list(resized.axes)
    for axis, pixels in zip((HEIGHT, WIDTH), distance, strict=True):
        axes[axis] = (Atom(axis, pixels, call.result[axis]),) if call.result[axis] > 1 else ()
    (vertical, horizontal), (top, bottom, left, right) = distance, op.padding
    atrous = replace(
        op,
        rate=(op.rate[0] * vertical, op.rate[1] * horizontal),
        padding=(top * vertical, bottom * vertical, left * horizontal, right * horizontal),
    )
    return replace(translation, op=atrous, result=Layout((*resized.base[:2], *sides), tuple(axes)))


def _pixel_distance(layout: Layout) -> Pair | None:
    """Return the distance on the base between neighbouring pixels; None if they are not distributed evenly."""
    distance = []
    for axis in (HEIGHT, WIDTH):
        atoms, side = layout.axes[axis], layout.base[axis]
        count = prod(atom.size for atom in atoms)
        if len(atoms) > 1 or any(atom.axis != axis or atom.step * atom.size != side for atom in atoms):
            return None
        distance.append(side // count)
    return (distance[0], distance[1])


def _hard(call: Call, arguments: Arguments) -> Translation | None:
    """Translate a hard sigmoid or a hard swish that is written out."""
    found = hard_argument(call)
    return _activation(call, arguments, *found) if found else None


def _div(call: Call, arguments: Arguments) -> Translation | None:
    return _hard(call, arguments) or _sum_divided(call, arguments)


def _relu(call: Call, arguments: Arguments) -> Translation | None:
    """Translate a ReLU that is written as a choice between a value and zero."""
    rule = RELUS.get(operator_name(call.node))
    value = rule(call) if rule else None
    return None if value is None else _activation(call, arguments, ActivationKind.RELU, value)


def _activation(call: Call, arguments: Arguments, kind: ActivationKind, value: fx.Node) -> Translation | None:
    layout = arguments.map(value)
    whole = layout is not None and layout.shape == call.result
    return Translation(Activation(kind=kind), (value,), result=layout) if whole else None


_TABLE: Final[dict[str, Callable[[Call, Arguments], Translation | None]]] = {
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "add": _add,
    "cat": _concat,
    "concat": _concat,
    "mean": _mean,
    "div": _div,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "convolution": _convolution,
    **dict.fromkeys(RELUS, _relu),
    "mul": _mul,
}

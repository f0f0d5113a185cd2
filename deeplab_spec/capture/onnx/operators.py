"""Translates ONNX operators into operations of the graph, by a table.

One small function per operator. A node that no rule knows becomes an ``Opaque`` with its attributes:
nothing is dropped.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from onnx import NodeProto

from deeplab_spec.analysis.sizes import explicit_padding, side_rules
from deeplab_spec.capture.onnx.hard_activations import hard_activation
from deeplab_spec.capture.onnx.model import short
from deeplab_spec.capture.onnx.values import PIXEL, Call, Translation, Values, attributes_of, decimal
from deeplab_spec.graph.ops import (
    MAP_RANK,
    NO_MARGINS,
    Activation,
    ActivationKind,
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    Dropout,
    GlobalAveragePool,
    Margins,
    Multiply,
    Opaque,
    Pad,
    Pair,
    Pool,
    PoolKind,
    Resize,
    ResizeMode,
)


def resize(call: Call) -> Translation | None:
    """Translate a resize with a supported rule; any resize of a single pixel is a broadcast."""
    before, after = call.shape(), call.result
    if before[:2] != after[:2] or call.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return None
    size = (after[2], after[3])
    if before[2:] == PIXEL:
        op: Resize | None = Resize(mode=ResizeMode.NEAREST, align_corners=False, size=size)
    else:
        op = _grid(call, size)
    return Translation(op, (call.name(0),)) if op else None


def _grid(call: Call, size: Pair) -> Resize | None:
    modern = call.node.op_type == "Resize" and call.values.opset > 10  # noqa: PLR2004 - before it, there was one rule
    mode, sides = call.get("mode", "nearest"), call.get("coordinate_transformation_mode", "half_pixel")
    if not modern:
        sides = "asymmetric"
    if call.get("antialias") or not _exact(call, size, 2 if modern else 1):
        return None
    if mode == "nearest":
        rounding = call.get("nearest_mode", "round_prefer_floor") if modern else "floor"
        kept = size == call.shape()[2:]
        floor = kept or (sides, rounding) == ("asymmetric", "floor")
        return Resize(mode=ResizeMode.NEAREST, align_corners=False, size=size) if floor else None
    kind = {"linear": ResizeMode.BILINEAR, "cubic": ResizeMode.BICUBIC}.get(mode)
    if mode == "cubic" and (decimal(call.get("cubic_coeff_a", -0.75)) != -0.75 or call.get("exclude_outside")):  # noqa: PLR2004 - the framework's constant
        return None
    centred = sides == "half_pixel" or (sides == "pytorch_half_pixel" and 1 not in size)
    if kind is None or not (centred or sides == "align_corners"):
        return None
    return Resize(mode=kind, align_corners=not centred, size=size)


def _exact(call: Call, size: Pair, scales: int) -> bool:
    """Tell whether the distance of samples is the ratio of the sides, also if scales are stated."""
    array = call.constant(scales)
    stated = call.get("scales", ()) if array is None else np.ravel(array).tolist()
    axes = [axis % 4 for axis in call.get("axes") or range(4)]
    sides = zip(call.shape()[2:], size, (2, 3), strict=True)
    if call.get("keep_aspect_ratio_policy", "stretch") != "stretch" or axes not in ([0, 1, 2, 3], [2, 3]):
        return False
    return not stated or all(
        math.isclose(side * stated[axes.index(axis)], result, rel_tol=1e-6) for side, result, axis in sides
    )


def broadcast(call: Call) -> Translation | None:
    """Translate the repetition of a pixel over a map; a map repeated once is itself."""
    before, after = call.shape(), call.result
    if before == after:
        return Translation(None, (call.name(0),))
    return resize(call) if before[2:] == PIXEL else None


def translate(node: NodeProto, values: Values) -> Translation | None:
    """Return the operation of a node; None if the table does not know it."""
    rule = _TABLE.get(node.op_type)
    call = Call(node, values, attributes_of(node))
    if len(call.result) != MAP_RANK:
        return None
    written_out = hard_activation(call)
    if written_out:
        kind, argument = written_out
        return Translation(Activation(kind=kind), (argument,))
    maps = len(call.shape()) == MAP_RANK and call.open(0)
    return rule(call) if rule and maps else None


def opaque(node: NodeProto, values: Values) -> Opaque:
    """Return a node as an opaque operation."""
    parts = [f"{name}={value}" for name, value in sorted(attributes_of(node).items())]
    for position, name in enumerate(node.input):
        if name in values.arrays:
            array = values.arrays[name]
            parts.append(f"input {position}={array.tolist() if array.size <= 8 else array.shape}")  # noqa: PLR2004 - as many as fit a line
    return Opaque(target=f"onnx.{node.op_type}", detail=short(", ".join(parts)))


def _margins(call: Call, kernel: Pair, stride: Pair, rate: Pair) -> Margins:
    rule = call.get("auto_pad", "NOTSET")
    if rule in {"SAME_UPPER", "SAME_LOWER"}:
        sides = call.shape()[2:]
        top, bottom, left, right = explicit_padding("same", (sides[0], sides[1]), kernel, stride, rate)
        return (top, bottom, left, right) if rule == "SAME_UPPER" else (bottom, top, right, left)
    if rule == "VALID":
        return NO_MARGINS
    top, left, bottom, right = call.get("pads") or NO_MARGINS
    return (top, bottom, left, right)


def _conv(call: Call) -> Translation | None:
    weight, bias = call.constant(1), call.constant(2)
    if weight is None or call.open(2) or weight.dtype != np.float32:
        return None
    groups, kernel = call.get("group", 1), (weight.shape[2], weight.shape[3])
    stride, rate = call.pair("strides"), call.pair("dilations")
    op = Conv2d(
        channels_in=weight.shape[1] * groups,
        channels_out=weight.shape[0],
        kernel=kernel,
        stride=stride,
        rate=rate,
        padding=_margins(call, kernel, stride, rate),
        groups=groups,
        bias=bias is not None,
    )
    roles = [("weight", call.name(1))] + ([("bias", call.name(2))] if bias is not None else [])
    return Translation(op, (call.name(0),), tuple(roles))


def _batch_norm(call: Call) -> Translation | None:
    own = [call.constant(position) for position in range(1, 5)]
    if call.get("training_mode") or any(tensor is None or tensor.dtype != np.float32 for tensor in own):
        return None
    kept = decimal(call.get("momentum", 0.9))
    op = BatchNorm(
        channels=call.result[1], eps=decimal(call.get("epsilon", 1e-5)), momentum=decimal(1 - kept), affine=True
    )
    names = ("weight", "bias", "running_mean", "running_var")
    return Translation(op, (call.name(0),), tuple(zip(names, call.node.input[1:5], strict=True)))


def _activation(kind: ActivationKind, slope: tuple[str, float] | None = None) -> Callable[[Call], Translation]:
    def rule(call: Call) -> Translation:
        below = decimal(call.get(*slope)) if slope else 0.0
        return Translation(Activation(kind=kind, slope=below), (call.name(0),))

    return rule


def _only(
    rule: Callable[[Call], Translation], **attributes: tuple[str | float, str | float]
) -> Callable[[Call], Translation | None]:
    """Restrict a rule to nodes whose attributes have given values: ``(default, required)`` by name."""

    def guarded(call: Call) -> Translation | None:
        for name, (default, required) in attributes.items():
            value = call.get(name, default)
            if (decimal(value) if isinstance(value, float) else value) != required:
                return None
        return rule(call)

    return guarded


def _clip(call: Call) -> Translation | None:
    bounds = call.bounds()
    if bounds is None:
        return None
    low, high = bounds
    if low == 0 and high >= float(np.finfo(np.float32).max):
        return Translation(Activation(), (call.name(0),))
    if (low, high) == (0, 6):
        return Translation(Activation(kind=ActivationKind.RELU6), (call.name(0),))
    return None


def _add(call: Call) -> Translation | None:
    names = tuple(call.node.input)
    if len(names) == 1:
        return Translation(None, names)
    alike = all(call.open(position) and call.shape(position) == call.result for position in range(len(names)))
    return Translation(Add(), names) if len(names) == 2 and alike else None  # noqa: PLR2004 - two operands


def _mul(call: Call) -> Translation | None:
    """Translate the product of a map and a factor per channel, in either order."""
    names, shapes = tuple(call.node.input), [call.shape(position) for position in (0, 1)]
    product = [call.result, (*call.result[:2], *PIXEL)]
    if not (call.open(0) and call.open(1)) or product not in (shapes, shapes[::-1]):
        return None
    return Translation(Multiply(), names if shapes == product else names[::-1])


def _concat(call: Call) -> Translation | None:
    names = tuple(call.node.input)
    if call.get("axis") not in {1, -3} or not all(call.open(position) for position in range(len(names))):
        return None
    return Translation(Concat() if len(names) > 1 else None, names)


def _global_pool(call: Call) -> Translation:
    return Translation(GlobalAveragePool(), (call.name(0),))


def _mean(call: Call) -> Translation | None:
    array = call.constant(1)
    axes = call.get("axes") if array is None else np.ravel(array).tolist()
    if call.open(1) or {axis % 4 for axis in axes or ()} != {2, 3} or not call.get("keepdims", 1):
        return None
    return _global_pool(call)


def _pool(kind: PoolKind) -> Callable[[Call], Translation | None]:
    def rule(call: Call) -> Translation | None:
        kernel, stride = call.pair("kernel_shape"), call.pair("strides")
        padding = _margins(call, kernel, stride, PIXEL)
        top, bottom, left, right = padding
        if call.pair("dilations") != PIXEL or (top, left) != (bottom, right):
            return None
        if kind is PoolKind.AVERAGE and kernel == call.shape()[2:] and padding == NO_MARGINS:
            return _global_pool(call)
        op = Pool(
            kind=kind,
            kernel=kernel,
            stride=stride,
            padding=padding,
            ceil_mode=bool(call.get("ceil_mode", 0)),
            count_margin=kind is PoolKind.MAX or bool(call.get("count_include_pad", 0)),
        )
        sides = zip(side_rules(op), call.shape()[2:], call.result[2:], strict=True)
        fits = all(side(size) == result for side, size, result in sides)
        return Translation(op, (call.name(0),)) if fits else None

    return rule


def _pad(call: Call) -> Translation | None:
    if any(call.open(position) for position in (1, 2, 3)):
        return None
    pads, value, axes = call.constant(1), call.constant(2), call.constant(3)
    sides: Sequence[int] = call.get("pads", ()) if pads is None else [int(side) for side in np.ravel(pads)]
    named = range(4) if axes is None else [int(axis) % 4 for axis in np.ravel(axes)]
    before = dict(zip(named, sides[: len(named)], strict=True))
    after = dict(zip(named, sides[len(named) :], strict=True))
    names = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    mode = names.get(call.get("mode", "constant"))
    if mode is None or any(side.get(axis) for side in (before, after) for axis in (0, 1)):
        return None
    margins = (before.get(2, 0), after.get(2, 0), before.get(3, 0), after.get(3, 0))
    fill = call.get("value", 0.0) if value is None else float(np.ravel(value)[0])
    op = Pad(margins=margins, mode=mode, value=decimal(fill) if mode == "constant" else 0.0)
    return Translation(op, (call.name(0),))


def _dropout(call: Call) -> Translation | None:
    stated, training = call.constant(1), call.constant(2)
    if call.open(1) or call.open(2) or (training is not None and bool(training)):
        return None
    ratio = call.get("ratio", 0.5) if stated is None else float(np.ravel(stated)[0])
    return Translation(Dropout(probability=decimal(ratio)), (call.name(0),))


def _cast(call: Call) -> Translation | None:
    same = call.get("to") == call.values.dtype(call.name(0))
    return Translation(None, (call.name(0),)) if same else None


_TABLE: Final[dict[str, Callable[[Call], Translation | None]]] = {
    "Conv": _conv,
    "BatchNormalization": _batch_norm,
    "Relu": _activation(ActivationKind.RELU),
    "Clip": _clip,
    "LeakyRelu": _activation(ActivationKind.LEAKY_RELU, ("alpha", 0.01)),
    "Elu": _activation(ActivationKind.ELU, ("alpha", 1.0)),
    "Gelu": _only(_activation(ActivationKind.GELU), approximate=("none", "none")),
    "Swish": _only(_activation(ActivationKind.SILU), alpha=(1.0, 1.0)),
    "HardSwish": _activation(ActivationKind.HARDSWISH),
    "Sigmoid": _activation(ActivationKind.SIGMOID),
    "Tanh": _activation(ActivationKind.TANH),
    "Add": _add,
    "Sum": _add,
    "Mul": _mul,
    "Concat": _concat,
    "GlobalAveragePool": _global_pool,
    "ReduceMean": _mean,
    "AveragePool": _pool(PoolKind.AVERAGE),
    "MaxPool": _pool(PoolKind.MAX),
    "Resize": resize,
    "Upsample": resize,
    "Expand": broadcast,
    "Tile": broadcast,
    "Pad": _pad,
    "Dropout": _dropout,
    "Identity": lambda call: Translation(None, (call.name(0),)),
    "Cast": _cast,
}

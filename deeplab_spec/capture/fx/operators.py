"""Translates framework operators into operations of the graph, by a table.

One small function per operator. A call that no rule knows becomes an ``Opaque`` with its arguments:
nothing is dropped.
"""

from collections.abc import Callable, Sequence
from typing import Final

from torch import fx
from torch._ops import OpOverload

from deeplab_spec.capture.fx.calls import Call, Translation, operator_name, read_call, shape_of
from deeplab_spec.capture.fx.layout import HEIGHT, WIDTH
from deeplab_spec.graph.ops import (
    MAP_RANK,
    Activation,
    ActivationKind,
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    Dropout,
    GlobalAveragePool,
    Margins,
    Pad,
    Pair,
    Pool,
    PoolKind,
    Resize,
    ResizeMode,
    margins,
)


def translate(node: fx.Node) -> Translation | None:
    """Return the operation of a call; None if the table does not know it."""
    rule = rule_of(node) if isinstance(node.target, OpOverload) else None
    return rule(read_call(node)) if rule and len(shape_of(node)) == MAP_RANK else None


def rule_of(node: fx.Node) -> "Rule | None":
    """Return the rule that translates a call on batches of maps."""
    return _TABLE.get(operator_name(node).removesuffix("_"))


Rule = Callable[[Call], Translation | None]


def _pair(value: Sequence[int] | int) -> Pair:
    if isinstance(value, int):
        return (value, value)
    values = tuple(value)
    return (values[0], values[-1])


def _symmetric(value: Sequence[int] | int) -> Margins:
    vertical, horizontal = _pair(value)
    return (vertical, vertical, horizontal, horizontal)


def _conv(call: Call) -> Translation | None:
    if call.arguments.get("transposed"):
        return None
    weight = call.shape("weight")
    padding, rate, kernel = call["padding"], _pair(call["dilation"]), (weight[2], weight[3])
    if padding == "same":
        sides: list[int] = []
        for taps, distance in zip(kernel, rate, strict=True):
            total = distance * (taps - 1)
            sides += [total // 2, total - total // 2]
        explicit: Margins = (sides[0], sides[1], sides[2], sides[3])
    else:
        explicit = margins(0) if padding == "valid" else _symmetric(padding)
    bias = call["bias"]
    op = Conv2d(
        channels_in=weight[1] * call["groups"],
        channels_out=weight[0],
        kernel=kernel,
        stride=_pair(call["stride"]),
        rate=rate,
        padding=explicit,
        groups=call["groups"],
        bias=bias is not None,
    )
    roles = [("weight", call["weight"])] + ([("bias", bias)] if bias is not None else [])
    return Translation(op, (call["input"],), tuple(roles))


def _batch_norm(call: Call) -> Translation | None:
    if call.arguments.get("training") or call["running_mean"] is None:
        return None
    op = BatchNorm(
        channels=call.result[1], eps=call["eps"], momentum=call["momentum"], affine=call["weight"] is not None
    )
    names = ("weight", "bias", "running_mean", "running_var")
    roles = tuple((name, call[name]) for name in names if call[name] is not None)
    return Translation(op, (call["input"],), roles)


def _activation(kind: ActivationKind, slope: str | None = None) -> Callable[[Call], Translation]:
    def rule(call: Call) -> Translation:
        value = call["self"] if "self" in call.arguments else call["input"]
        return Translation(Activation(kind=kind, slope=float(call[slope]) if slope else 0.0), (value,))

    return rule


def _clamp(call: Call, low: str, high: str) -> Translation | None:
    bounds = (call[low], call[high])
    if bounds == (0, None):
        return Translation(Activation(), (call["self"],))
    if bounds == (0, 6):
        return Translation(Activation(kind=ActivationKind.RELU6), (call["self"],))
    return None


def _add(call: Call) -> Translation | None:
    values = (call["self"], call["other"])
    tensors = all(isinstance(value, fx.Node) and shape_of(value) == call.result for value in values)
    return Translation(Add(), values) if tensors and call["alpha"] == 1 else None


def _concat(call: Call) -> Translation | None:
    return Translation(Concat(), tuple(call["tensors"])) if call["dim"] in {1, -3} else None


def _adaptive_pool(call: Call) -> Translation | None:
    return Translation(GlobalAveragePool(), (call["self"],)) if tuple(call["output_size"]) == (1, 1) else None


def _mean(call: Call) -> Translation | None:
    axes = {axis % 4 for axis in call.arguments.get("dim") or ()}
    if axes != {2, 3} or not call["keepdim"] or call["dtype"] is not None:
        return None
    return Translation(GlobalAveragePool(), (call["self"],))


def _pool(kind: PoolKind) -> Callable[[Call], Translation | None]:
    def rule(call: Call) -> Translation | None:
        dilation = _pair(call.arguments.get("dilation", 1))
        if dilation != (1, 1) or call.arguments.get("divisor_override"):
            return None
        kernel, padding = _pair(call["kernel_size"]), _symmetric(call["padding"])
        if kind is PoolKind.AVERAGE and kernel == call.shape("self")[2:] and padding == margins(0):
            return Translation(GlobalAveragePool(), (call["self"],))
        op = Pool(
            kind=kind,
            kernel=kernel,
            stride=_pair(call["stride"] or kernel),
            padding=padding,
            ceil_mode=bool(call["ceil_mode"]),
            count_margin=bool(call.arguments.get("count_include_pad", True)),
        )
        return Translation(op, (call["self"],))

    return rule


def _resize(mode: ResizeMode) -> Rule:
    def rule(call: Call) -> Translation | None:
        value = call["input"] if "input" in call.arguments else call["self"]
        align = bool(call.arguments.get("align_corners", False))
        if not align and not _whole_factors(call, shape_of(value)):
            return None
        op = Resize(mode=mode, align_corners=align, size=(call.result[2], call.result[3]))
        return Translation(op, (value,))

    return rule


_PADDINGS: Final = {"reflection_pad2d": "reflect", "replication_pad2d": "replicate"}


def _whole_factors(call: Call, shape: tuple[int, ...]) -> bool:
    """Tell whether the stated factors of a resize equal the ratio of its sizes: otherwise it samples elsewhere."""
    stated = call.arguments.get("scale_factors") or (call.arguments.get("scales_h"), call.arguments.get("scales_w"))
    sides = zip(stated, shape[2:], call.result[2:], strict=True)
    return all(factor is None or factor * before == after for factor, before, after in sides)


def _broadcast(call: Call) -> Translation | None:
    """Translate the repetition of a single pixel."""
    shape = call.shape("self")
    if shape[2:] != (1, 1) or shape[:2] != call.result[:2]:
        return None
    like = (call["other"],) if isinstance(call.arguments.get("other"), fx.Node) else ()
    op = Resize(mode=ResizeMode.NEAREST, align_corners=False, size=(call.result[2], call.result[3]))
    return Translation(op, (call["self"], *like))


def cropped_margins(call: Call) -> Margins | None:
    """Return a slice of rows or columns as negative margins; None for any other slice."""
    axis, start = call["dim"] % len(call.result), call["start"] or 0
    if axis not in {HEIGHT, WIDTH} or call["step"] != 1 or min(call.result) < 1:
        return None
    side = call.shape("self")[axis]
    before = start + side if start < 0 else start
    behind = side - before - call.result[axis]
    return (-before, -behind, 0, 0) if axis == HEIGHT else (0, 0, -before, -behind)


def _slice(call: Call) -> Translation | None:
    taken = cropped_margins(call)
    return Translation(Pad(margins=taken), (call["self"],)) if taken else None


def _pad(call: Call) -> Translation | None:
    sides = [*(call["pad"] if "pad" in call.arguments else call["padding"]), 0, 0, 0, 0]
    left, right, top, bottom = sides[:4]
    if any(sides[4:8]):
        return None
    mode = _PADDINGS.get(operator_name(call.node), call.arguments.get("mode", "constant"))
    value = float(call.arguments.get("value") or 0)
    return Translation(Pad(margins=(top, bottom, left, right), mode=mode, value=value), (call["self"],))


def _dropout(call: Call) -> Translation:
    return Translation(Dropout(probability=call["p"]), (call["input"],))


ELEMENT_WISE: Final[dict[str, Rule]] = {
    "relu": _activation(ActivationKind.RELU),
    "relu6": _activation(ActivationKind.RELU6),
    "leaky_relu": _activation(ActivationKind.LEAKY_RELU, "negative_slope"),
    "elu": _activation(ActivationKind.ELU, "alpha"),
    "gelu": _activation(ActivationKind.GELU),
    "silu": _activation(ActivationKind.SILU),
    "hardswish": _activation(ActivationKind.HARDSWISH),
    "hardsigmoid": _activation(ActivationKind.HARDSIGMOID),
    "sigmoid": _activation(ActivationKind.SIGMOID),
    "tanh": _activation(ActivationKind.TANH),
    "hardtanh": lambda call: _clamp(call, "min_val", "max_val"),
    "clamp": lambda call: _clamp(call, "min", "max"),
    "clamp_min": lambda call: _clamp(Call(call.node, call.arguments | {"max": None}), "min", "max"),
    "dropout": _dropout,
    "feature_dropout": _dropout,
}
"""Rules of element-wise operators."""

_TABLE: Final[dict[str, Rule]] = {
    **ELEMENT_WISE,
    "conv2d": _conv,
    "convolution": _conv,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "add": _add,
    "cat": _concat,
    "concat": _concat,
    "adaptive_avg_pool2d": _adaptive_pool,
    "mean": _mean,
    "avg_pool2d": _pool(PoolKind.AVERAGE),
    "max_pool2d": _pool(PoolKind.MAX),
    "max_pool2d_with_indices": _pool(PoolKind.MAX),
    "upsample_nearest2d": _resize(ResizeMode.NEAREST),
    "upsample_bilinear2d": _resize(ResizeMode.BILINEAR),
    "upsample_bicubic2d": _resize(ResizeMode.BICUBIC),
    "pad": _pad,
    "constant_pad_nd": _pad,
    "reflection_pad2d": _pad,
    "replication_pad2d": _pad,
    "expand": _broadcast,
    "expand_as": _broadcast,
    "repeat": _broadcast,
    "tile": _broadcast,
    "slice": _slice,
}

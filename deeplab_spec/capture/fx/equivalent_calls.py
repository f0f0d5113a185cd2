"""Equivalent forms of a convolution or a ReLU.

A 1x1 convolution may be a matrix product, a bias may be added by a separate call, and a ReLU may be a
choice between a value and zero. Matrix products are parsed into one form, with a letter for each axis as
in ``nchw,oc->nohw``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from torch import fx
from torch._ops import OpOverload

from deeplab_spec.capture.fx.calls import Call, Translation, is_call_of, operator_name, read_call, shape_of
from deeplab_spec.capture.fx.layout import CHANNELS, Arguments, Layout, full_axis, identity_layout, with_channels
from deeplab_spec.capture.fx.operators import cropped_margins
from deeplab_spec.graph.ops import ActivationKind, Conv2d

_LETTERS: Final = "abdefghijkl"
"""Axes that a product keeps; ``c`` is the axis of the sum, and ``o`` that of the output channels."""


@dataclass(frozen=True, slots=True)
class Product:
    """A sum over one axis of a value, weighted by a matrix.

    Attributes:
        value: The value that is summed.
        weight: The matrix; axes of size 1 are ignored.
        letters: Axes of the value, of the matrix, and of the result.
        bias: A vector that is added along the last axis of the result.
    """

    value: fx.Node
    weight: fx.Node
    letters: tuple[str, str, str]
    bias: fx.Node | None = None


def translate_product(call: Call, arguments: Arguments) -> Translation | None:
    """Translate a matrix product over channels into a 1x1 convolution; None for any other call."""
    parse = _PARSERS.get(operator_name(call.node))
    product = parse(call, arguments) if parse else None
    if product is None:
        return None
    layout, weight = arguments.map(product.value), arguments.tensor(product.weight)
    value_axes, matrix_axes, result_axes = product.letters
    if layout is None or weight is None or not len(layout.axes) == len(value_axes) == len(call.result):
        return None
    width = layout.base[CHANNELS]
    out = call.result[result_axes.index("o")]
    matrix = weight.reshaped((out, width) if matrix_axes == "oc" else (width, out))
    resized = with_channels(layout, value_axes.index("c"), out)
    if matrix is None or resized is None:
        return None
    kernel = matrix.permuted((matrix_axes.index("o"), matrix_axes.index("c"))).reshaped((out, width, 1, 1))
    result = resized.permuted([value_axes.index("c" if letter == "o" else letter) for letter in result_axes])
    if kernel is None or not kernel.strided or result.shape != call.result:
        return None
    op = Conv2d(channels_in=width, channels_out=out, bias=product.bias is not None)
    roles, views = [("weight", product.weight)], {"weight": kernel}
    if product.bias is not None:
        bias = arguments.vector(product.bias, out)
        if bias is None:
            return None
        roles.append(("bias", product.bias))
        views["bias"] = bias
    return Translation(op, (product.value,), tuple(roles), result=result, views=views)


def _linear(call: Call, _: Arguments) -> Product | None:
    return _last_axis(call["input"], call["weight"], "oc", call["bias"])


def _matmul(call: Call, arguments: Arguments) -> Product | None:
    left, right = call.node.args[:2]
    if not isinstance(left, fx.Node) or not isinstance(right, fx.Node):
        return None
    if arguments.map(left):
        return _last_axis(left, right, "co")
    kept = _LETTERS[: len(shape_of(right)) - 2]
    return Product(right, left, (f"{kept}cz", "oc", f"{kept}oz"))


def _addmm(call: Call, _: Arguments) -> Product | None:
    bias, value, weight = call.node.args[:3]
    if not all(isinstance(argument, fx.Node) for argument in (bias, value, weight)):
        return None
    if call["beta"] != 1 or call["alpha"] != 1:
        return None
    return _last_axis(value, weight, "co", bias)  # type: ignore[arg-type]  # all three are nodes


def _last_axis(value: fx.Node, weight: fx.Node, matrix_axes: str, bias: fx.Node | None = None) -> Product:
    kept = _LETTERS[: len(shape_of(value)) - 1]
    return Product(value, weight, (f"{kept}c", matrix_axes, f"{kept}o"), bias)


def _einsum(call: Call, arguments: Arguments) -> Product | None:
    sides = call["equation"].replace(" ", "").partition("->")
    letters, operands = sides[0].split(","), call["tensors"]
    if len(operands) != 2 or not sides[1] or "." in sides[0]:  # noqa: PLR2004 - a value and a matrix
        return None
    if arguments.map(operands[1]):
        letters, operands = letters[::-1], operands[::-1]
    value, weight = letters
    summed, added = set(value) & set(weight), set(weight) - set(value)
    kept = set(value) - summed
    if [len(weight), len(summed), len(added)] != [2, 1, 1] or len(kept) != len(value) - 1:
        return None
    if sorted(sides[2]) != sorted(kept | added):
        return None
    return _with_letters(operands[0], operands[1], (value, weight, sides[2]), summed.pop(), added.pop())


def _with_letters(value: fx.Node, weight: fx.Node, letters: tuple[str, str, str], summed: str, added: str) -> Product:
    """Return a product with its axes renamed."""
    others = [letter for letter in letters[0] if letter != summed]
    names = str.maketrans({summed: "c", added: "o", **dict(zip(others, _LETTERS, strict=False))})
    value_axes, matrix_axes, result_axes = (text.translate(names) for text in letters)
    return Product(value, weight, (value_axes, matrix_axes, result_axes))


def _tensordot(call: Call, arguments: Arguments) -> Product | None:
    value, weight = call["self"], call["other"]
    if not arguments.map(value) or [len(call["dims_self"]), len(call["dims_other"])] != [1, 1]:
        return None
    rank = len(shape_of(value))
    axis = call["dims_self"][0] % rank
    kept = _LETTERS[: rank - 1]
    matrix_axes = "co" if call["dims_other"][0] % 2 == 0 else "oc"
    return Product(value, weight, (f"{kept[:axis]}c{kept[axis:]}", matrix_axes, f"{kept}o"))


def _pointwise(call: Call, _: Arguments) -> Product | None:
    """Parse a convolution of any rank whose kernel is a single tap."""
    single = all(side == 1 for side in call.shape("weight")[2:]) and call["groups"] == 1
    padding = call["padding"]
    bare = padding in {"same", "valid"} if isinstance(padding, str) else not any(padding)
    if not single or not bare or any(step != 1 for step in call["stride"]) or call.arguments.get("transposed"):
        return None
    first, kept = _LETTERS[0], _LETTERS[1 : len(call.result) - 1]
    return Product(call["input"], call["weight"], (f"{first}c{kept}", "oc", f"{first}o{kept}"), call["bias"])


_PARSERS: Final[dict[str, Callable[[Call, Arguments], Product | None]]] = {
    "linear": _linear,
    "mm": _matmul,
    "bmm": _matmul,
    "matmul": _matmul,
    "addmm": _addmm,
    "baddbmm": _addmm,
    "einsum": _einsum,
    "tensordot": _tensordot,
    "conv1d": _pointwise,
    "conv2d": _pointwise,
    "convolution": _pointwise,
}


def fuse_into_convolution(node: fx.Node, value: fx.Node, conv: Conv2d, arguments: Arguments) -> Translation | None:
    """Fuse a call into the convolution that computes one of its arguments: a bias, or a crop; None for any other call.

    The convolution's result has no other consumer.
    """
    layout = arguments.map(value)
    if layout is None or not isinstance(node.target, OpOverload):
        return None
    match operator_name(node).removesuffix("_"):
        case "add":
            return _with_bias(node, value, conv, layout, arguments)
        case "slice":
            return _cropped(node, value, conv, layout)
        case _:
            return None


def _with_bias(node: fx.Node, value: fx.Node, conv: Conv2d, layout: Layout, arguments: Arguments) -> Translation | None:
    """Fuse a value per channel into a convolution without bias."""
    call = read_call(node)
    bias = call["other"] if call["self"] is value else call["self"]
    tensor, vector = arguments.tensor(bias), arguments.vector(bias, conv.channels_out)
    if conv.bias or call["alpha"] != 1 or tensor is None or vector is None or call.result != layout.shape:
        return None
    sides = (1,) * (len(layout.axes) - len(tensor.axes)) + tensor.shape
    channels = full_axis(CHANNELS, conv.channels_out)
    if any(side != 1 and axis != channels for side, axis in zip(sides, layout.axes, strict=True)):
        return None
    op = replace(conv, bias=True)
    return Translation(op, (value,), (("bias", bias),), result=layout, views={"bias": vector})


def _cropped(node: fx.Node, value: fx.Node, conv: Conv2d, layout: Layout) -> Translation | None:
    """Fuse a crop into a convolution of stride 1, which gets smaller margins."""
    margins = cropped_margins(read_call(node))
    if margins is None or not layout.identity or conv.padding == "same" or conv.stride != (1, 1):
        return None
    top, bottom, left, right = (own + more for own, more in zip(conv.padding, margins, strict=True))
    op = replace(conv, padding=(top, bottom, left, right))
    return Translation(op, (value,), result=identity_layout(shape_of(node)))


_CONVERSIONS: Final = frozenset({"to", "_to_copy", "type_as"})


def hard_argument(call: Call) -> tuple[ActivationKind, fx.Node] | None:
    """Return the kind and the argument of a hard sigmoid or a hard swish that is written out; None for other calls."""
    divided = _sixth(call)
    if divided is not None:
        value = _shifted(divided)
        if value is not None:
            return ActivationKind.HARDSIGMOID, value
        if is_call_of(divided, {"mul"}):
            value = _both(read_call(divided), _shifted)
            return (ActivationKind.HARDSWISH, value) if value is not None else None
    value = _both(call, _hard_sigmoid) if is_call_of(call.node, {"mul"}) else None
    return (ActivationKind.HARDSWISH, value) if value is not None else None


def _both(product: Call, parse: Callable[[fx.Node], fx.Node | None]) -> fx.Node | None:
    """Return the operand of a product that the other one is computed from; None if there is none."""
    one, other = _node(product["self"]), _node(product.arguments.get("other"))
    if one is None or other is None:
        return None
    return next((value for value, made in ((one, other), (other, one)) if parse(made) is value), None)


def _hard_sigmoid(value: fx.Node) -> fx.Node | None:
    """Return the argument of a hard sigmoid, in one call or written out."""
    if is_call_of(value, {"hardsigmoid"}):
        return _node(read_call(value)["self"])
    divided = _sixth(read_call(value)) if is_call_of(value, {"div", "mul"}) else None
    return _shifted(divided) if divided is not None else None


def _sixth(call: Call) -> fx.Node | None:
    """Parse ``x / 6`` or ``x * (1 / 6)``."""
    factors = {"div": 6, "mul": 1 / 6}
    if not is_call_of(call.node, factors) or call.arguments.get("other") != factors[operator_name(call.node)]:
        return None
    return _node(call["self"])


def _shifted(value: fx.Node) -> fx.Node | None:
    """Parse ``clamp(x + 3, 0, 6)``, also as a bounded activation."""
    if not is_call_of(value, {"relu6", "hardtanh", "clamp"}):
        return None
    call = read_call(value)
    names = (("min_val", "min"), ("max_val", "max"))
    bounds = [call.arguments.get(one, call.arguments.get(other)) for one, other in names]
    inner = call["self"] if "self" in call.arguments else call["input"]
    if (bounds not in ([0, 6], [None, None])) or not is_call_of(inner, {"add"}):
        return None
    shift = read_call(inner)
    return _node(shift["self"]) if shift["other"] == 3 and shift["alpha"] == 1 else None  # noqa: PLR2004 - by definition


def _where(call: Call) -> fx.Node | None:
    """Parse ``where(x > 0, x, 0)`` or ``where(x < 0, 0, x)``."""
    condition, one, other = (call.arguments.get(name) for name in ("condition", "self", "other"))
    if _is_zero(other) and _compares(condition, one, {"gt", "ge"}):
        return _node(one)
    if _is_zero(one) and _compares(condition, other, {"lt", "le"}):
        return _node(other)
    return None


def _maximum(call: Call) -> fx.Node | None:
    """Parse ``maximum(x, 0)``, in either order."""
    one, other = call["self"], call.arguments.get("other")
    if _is_zero(other):
        return _node(one)
    return _node(other) if _is_zero(one) else None


def _mul(call: Call) -> fx.Node | None:
    """Parse ``x * (x > 0)``, in either order, with the condition converted to numbers or not."""
    for one, other in ((call["self"], call["other"]), (call["other"], call["self"])):
        condition = other
        if isinstance(other, fx.Node) and is_call_of(other, _CONVERSIONS):
            condition = other.args[0]
        if _compares(condition, one, {"gt", "ge"}):
            return _node(one)
    return None


def _threshold(call: Call) -> fx.Node | None:
    return _node(call["self"]) if call["threshold"] == 0 and call["value"] == 0 else None


def _compares(condition: object, value: object, names: set[str]) -> bool:
    """Tell whether a condition compares a value with zero."""
    if not isinstance(condition, fx.Node) or not is_call_of(condition, names):
        return False
    call = read_call(condition)
    return call["self"] is value and _is_zero(call["other"])


def _is_zero(value: object) -> bool:
    if not isinstance(value, fx.Node):
        return isinstance(value, int | float) and value == 0
    if is_call_of(value, {"full", "full_like", "new_full"}):
        return bool(read_call(value)["fill_value"] == 0)
    if is_call_of(value, {"scalar_tensor"}):
        return bool(value.args[0] == 0)
    return is_call_of(value, {"zeros", "zeros_like", "new_zeros"})


def _node(value: object) -> fx.Node | None:
    return value if isinstance(value, fx.Node) else None


RELUS: Final[dict[str, Callable[[Call], fx.Node | None]]] = {
    "where": _where,
    "maximum": _maximum,
    "max": _maximum,
    "mul": _mul,
    "threshold": _threshold,
}

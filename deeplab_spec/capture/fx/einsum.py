"""The many ways to write a matrix product, in one: letters for axes, as in ``nchw,oc->nohw``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torch import fx

from deeplab_spec.capture.fx.arguments import CHANNELS, Arguments, with_channels
from deeplab_spec.capture.fx.operators import Call, Translation, operator_name, shape_of
from deeplab_spec.graph.ops import Conv2d

_LETTERS: Final = "abdefghijkl"
"""Axes that a product keeps; ``c`` is summed over, and ``o`` is made."""


@dataclass(frozen=True, slots=True)
class Product:
    """A sum over one axis of a value, weighted by a matrix.

    Attributes:
        value: What is summed over.
        weight: The matrix; axes of size 1 do not count.
        letters: Axes of the value, of the matrix, and of the result.
        bias: What is added along the last axis of the result.
    """

    value: fx.Node
    weight: fx.Node
    letters: tuple[str, str, str]
    bias: fx.Node | None = None


def translate_product(call: Call, arguments: Arguments) -> Translation | None:
    """Read a matrix product over channels as a 1x1 convolution; None if it is another or none."""
    parse = _PARSERS.get(operator_name(call.node))
    product = parse(call, arguments) if parse else None
    if product is None:
        return None
    layout, weight = arguments.map(product.value), arguments.tensor(product.weight)
    reads, weighs, makes = product.letters
    if layout is None or weight is None or not len(layout.axes) == len(reads) == len(call.result):
        return None
    width = layout.base[CHANNELS]
    out = call.result[makes.index("o")]
    matrix = weight.reshaped((out, width) if weighs == "oc" else (width, out))
    relaid = with_channels(layout, reads.index("c"), out)
    if matrix is None or relaid is None:
        return None
    kernel = matrix.permuted((weighs.index("o"), weighs.index("c"))).reshaped((out, width, 1, 1))
    result = relaid.permuted([reads.index("c" if letter == "o" else letter) for letter in makes])
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


def _last_axis(value: fx.Node, weight: fx.Node, weighs: str, bias: fx.Node | None = None) -> Product:
    kept = _LETTERS[: len(shape_of(value)) - 1]
    return Product(value, weight, (f"{kept}c", weighs, f"{kept}o"), bias)


def _einsum(call: Call, arguments: Arguments) -> Product | None:
    sides = call["equation"].replace(" ", "").partition("->")
    letters, operands = sides[0].split(","), call["tensors"]
    if len(operands) != 2 or not sides[1] or "." in sides[0]:  # noqa: PLR2004 - a value and a matrix
        return None
    if arguments.map(operands[1]):
        letters, operands = letters[::-1], operands[::-1]
    value, weight = letters
    summed, made = set(value) & set(weight), set(weight) - set(value)
    kept = set(value) - summed
    if [len(weight), len(summed), len(made)] != [2, 1, 1] or len(kept) != len(value) - 1:
        return None
    if sorted(sides[2]) != sorted(kept | made):
        return None
    return _with_letters(operands[0], operands[1], (value, weight, sides[2]), summed.pop(), made.pop())


def _with_letters(value: fx.Node, weight: fx.Node, letters: tuple[str, str, str], summed: str, made: str) -> Product:
    """Return a product with its axes named anew."""
    others = [letter for letter in letters[0] if letter != summed]
    names = str.maketrans({summed: "c", made: "o", **dict(zip(others, _LETTERS, strict=False))})
    reads, weighs, makes = (text.translate(names) for text in letters)
    return Product(value, weight, (reads, weighs, makes))


def _tensordot(call: Call, arguments: Arguments) -> Product | None:
    value, weight = call["self"], call["other"]
    if not arguments.map(value) or [len(call["dims_self"]), len(call["dims_other"])] != [1, 1]:
        return None
    rank = len(shape_of(value))
    axis = call["dims_self"][0] % rank
    kept = _LETTERS[: rank - 1]
    weighs = "co" if call["dims_other"][0] % 2 == 0 else "oc"
    return Product(value, weight, (f"{kept[:axis]}c{kept[axis:]}", weighs, f"{kept}o"))


def _pointwise(call: Call, _: Arguments) -> Product | None:
    """Read a convolution of any number of axes whose kernel is a single tap."""
    single = all(side == 1 for side in call.shape("weight")[2:]) and call["groups"] == 1
    padding = call["padding"]
    bare = padding in {"same", "valid"} if isinstance(padding, str) else not any(padding)
    if not single or not bare or any(step != 1 for step in call["stride"]) or call.arguments.get("transposed"):
        return None
    kept = _LETTERS[: len(call.result) - 1]
    return Product(
        call["input"], call["weight"], (f"{kept[:1]}c{kept[1:]}", "oc", f"{kept[:1]}o{kept[1:]}"), call["bias"]
    )


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

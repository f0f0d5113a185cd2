"""What a convolution takes in of the calls after it: a bias that is added by itself, and a crop."""

from dataclasses import replace
from typing import Final

from torch import fx
from torch._ops import OpOverload

from deeplab_spec.capture.fx.arguments import CHANNELS, Arguments
from deeplab_spec.capture.fx.layout import Layout, of, whole
from deeplab_spec.capture.fx.operators import Translation, cropped_margins, operator_name, read_call
from deeplab_spec.graph.ops import Conv2d

_HEIGHT: Final = 2


def absorbed(node: fx.Node, value: fx.Node, conv: Conv2d, arguments: Arguments) -> Translation | None:
    """Return the convolution that a call makes of one before it; None if it makes none.

    Args:
        node: The call.
        value: The argument that holds the convolution's result.
        conv: The convolution, whose result nothing else reads.
        arguments: Where the arguments have their elements.
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
    """Read a convolution without bias, and a value per channel added to its result."""
    call = read_call(node)
    bias = call["other"] if call["self"] is value else call["self"]
    tensor, vector = arguments.tensor(bias), arguments.vector(bias, conv.channels_out)
    if conv.bias or call["alpha"] != 1 or tensor is None or vector is None or call.result != layout.shape:
        return None
    sides = (1,) * (len(layout.axes) - len(tensor.axes)) + tensor.shape
    channels = whole(CHANNELS, conv.channels_out)
    if any(side != 1 and axis != channels for side, axis in zip(sides, layout.axes, strict=True)):
        return None
    op = replace(conv, bias=True)
    return Translation(op, (value,), (("bias", bias),), result=layout, views={"bias": vector})


def _cropped(node: fx.Node, value: fx.Node, conv: Conv2d, layout: Layout) -> Translation | None:
    """Read a convolution of stride 1 whose result is cropped: it has smaller margins."""
    margins = cropped_margins(read_call(node))
    if margins is None or not layout.identity or conv.padding == "same" or conv.stride != (1, 1):
        return None
    top, bottom, left, right = (own + more for own, more in zip(conv.padding, margins, strict=True))
    return Translation(replace(conv, padding=(top, bottom, left, right)), (value,), result=of(read_call(node).result))

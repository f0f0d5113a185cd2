"""A layer as the call that builds it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import (
    Activation,
    ActivationKind,
    BatchNorm,
    Conv2d,
    Dropout,
    GlobalAveragePool,
    Op,
    Padding,
    Pair,
    Pool,
    PoolKind,
)
from deeplab_spec.spec.rows import Init, InitKind

Number = int | float | Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A number in a call.

    Attributes:
        role: What it is.
        keyword: Its keyword; empty for a positional argument.
        value: The number.
        default: The value that need not be written.
    """

    role: str
    keyword: str = ""
    value: Number
    default: Number | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A call that builds a layer.

    Attributes:
        callee: What is called.
        slots: Its numbers.
        flags: Other keyword arguments, as text.
        draw: The helper that draws its initial weights; empty for torch's own.
        drawn: The numbers of that helper.
        word: What it is, in one word.
    """

    callee: str
    slots: tuple[Slot, ...] = ()
    flags: tuple[str, ...] = ()
    draw: str = ""
    drawn: tuple[Slot, ...] = ()
    word: str

    @property
    def form(self) -> tuple[object, ...]:
        """Everything but the numbers."""
        return (self.callee, self.flags, self.draw, self.word, tuple(slot.keyword for slot in self.slots))


_ACTIVATIONS: Final[Mapping[ActivationKind, str]] = {
    ActivationKind.RELU: "nn.ReLU",
    ActivationKind.RELU6: "nn.ReLU6",
    ActivationKind.HARDSWISH: "nn.Hardswish",
    ActivationKind.HARDSIGMOID: "nn.Hardsigmoid",
}
_DRAWS: Final[Mapping[InitKind, str]] = {
    InitKind.TRUNCATED_NORMAL: "truncated_normal",
    InitKind.NORMAL: "normal",
    InitKind.XAVIER_UNIFORM: "xavier_uniform",
    InitKind.KAIMING_UNIFORM: "kaiming_uniform",
    InitKind.KAIMING_FAN_IN: "kaiming_fan_in",
    InitKind.KAIMING_FAN_OUT: "kaiming_fan_out",
    InitKind.VARIANCE_SCALING: "variance_scaling",
}


def layer(node: Node, init: Init | None) -> Layer:
    """Return the call that builds a layer; ``init`` is that of a convolution."""
    return _layer(node.op, init or Init())


def _layer(op: Op, init: Init) -> Layer:
    match op:
        case Conv2d():
            return _conv(op, init)
        case BatchNorm():
            numbers = (
                ("channels", "", op.channels),
                ("eps", "eps", op.eps),
                ("momentum", "momentum", op.momentum or 0.0),
            )
            slots = tuple(Slot(role=role, keyword=keyword, value=value) for role, keyword, value in numbers)
            return Layer(callee="nn.BatchNorm2d", slots=slots, word="norm")
        case Activation():
            return Layer(callee=_ACTIVATIONS[op.kind], word=op.kind.value)
        case Dropout():
            return Layer(callee="nn.Dropout", slots=(Slot(role="dropout", value=op.probability),), word="dropout")
        case GlobalAveragePool():
            return Layer(callee="nn.AdaptiveAvgPool2d", slots=(Slot(role="size", value=1),), word="average")
        case Pool():
            return _pool(op)
        case _:
            raise TypeError(op)


def _conv(op: Conv2d, init: Init) -> Layer:
    draw = _DRAWS.get(init.kind, "")
    needs_std = init.kind in {InitKind.TRUNCATED_NORMAL, InitKind.NORMAL}
    return Layer(
        callee="SameConv2d" if op.padding == "same" else "nn.Conv2d",
        slots=(
            Slot(role="inputs", value=op.channels_in),
            Slot(role="outputs", value=op.channels_out),
            Slot(role="kernel", value=_short(op.kernel)),
            Slot(role="stride", keyword="stride", value=_short(op.stride), default=1),
            *_padding(op.padding),
            Slot(role="rate", keyword="dilation", value=_short(op.rate), default=1),
            Slot(role="groups", keyword="groups", value=op.groups, default=1),
        ),
        flags=() if op.bias else ("bias=False",),
        draw=draw,
        drawn=(Slot(role="std", keyword="std", value=init.std),) if needs_std else (),
        word="depthwise" if op.depthwise else f"conv{op.kernel[0]}x{op.kernel[1]}",
    )


def _pool(op: Pool) -> Layer:
    same = "Same" if op.padding == "same" else "nn."
    kind = {PoolKind.MAX: "MaxPool2d", PoolKind.AVERAGE: "AvgPool2d"}[op.kind]
    flags = ["ceil_mode=True"] * op.ceil_mode
    flags += ["count_include_pad=False"] * (op.kind is PoolKind.AVERAGE and not op.count_margin)
    slots = (
        Slot(role="kernel", value=_short(op.kernel)),
        Slot(role="stride", keyword="stride", value=_short(op.stride)),
        *_padding(op.padding),
    )
    return Layer(callee=f"{same}{kind}", slots=slots, flags=tuple(flags), word="pool")


def _padding(padding: Padding) -> tuple[Slot, ...]:
    if padding == "same":
        return ()
    top, bottom, left, right = padding
    if (top, left) != (bottom, right):
        raise SpecError("padding", "a layer of PyTorch pads opposite sides alike", padding)
    return (Slot(role="padding", keyword="padding", value=_short((top, left)), default=0),)


def _short(pair: Pair) -> Number:
    return pair[0] if pair[0] == pair[1] else pair

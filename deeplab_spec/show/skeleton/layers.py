"""A layer as the call that builds it.

A call is written on one line where it fits, else with its arguments on one line of their own, or on one each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from deeplab_spec.errors import SpecError
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

WIDTH: Final = 100
_STEP: Final = "    "


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call; an argument is text or a call, with its keyword or none."""

    callee: str
    arguments: tuple[tuple[str, "str | Call"], ...] = ()


def written(value: "str | Call", indent: str = "", before: str = "", after: str = "") -> str:
    """Write a call between the text before and after it on its line.

    >>> print(written(Call(callee="f", arguments=(("", "1"), ("g", "2"))), before="x = "))
    x = f(1, g=2)
    """
    line = f"{indent}{before}{flat(value)}{after}"
    if isinstance(value, str) or len(line) <= WIDTH or not value.arguments:
        return line
    together = f"{indent}{_STEP}{flat(value).removeprefix(value.callee)[1:-1]}"
    if len(together) <= WIDTH:
        return f"{indent}{before}{value.callee}(\n{together}\n{indent}){after}"
    inner = [
        written(argument, indent + _STEP, f"{keyword}=" if keyword else "", ",")
        for keyword, argument in value.arguments
    ]
    return "\n".join([f"{indent}{before}{value.callee}(", *inner, f"{indent}){after}"])


def flat(value: "str | Call") -> str:
    """Write a call on one line."""
    if isinstance(value, str):
        return value
    arguments = [f"{keyword}={flat(argument)}" if keyword else flat(argument) for keyword, argument in value.arguments]
    return f"{value.callee}({', '.join(arguments)})"


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


def layer(op: Op, init: Init | None) -> Layer:
    """Return a layer; ``init`` is that of a convolution, whose kind has the name of its helper."""
    match op:
        case Conv2d():
            return _conv(op, init or Init())
        case BatchNorm():
            numbers = {"eps": op.eps, "momentum": op.momentum or 0.0}
            named = (Slot(role=name, keyword=name, value=value) for name, value in numbers.items())
            slots = (Slot(role="channels", value=op.channels), *named)
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
        draw="" if init.kind is InitKind.FRAMEWORK else init.kind.value,
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


def layer_call(found: Layer, columns: Sequence[str]) -> Call:
    """Return the call that builds a layer, where its numbers are written as given."""
    arguments: list[tuple[str, str | Call]] = []
    for slot, text in zip(found.slots, columns, strict=False):
        if slot.default is None or text != str(slot.default):
            arguments.append((slot.keyword, text))
    arguments += [tuple(flag.split("=")) for flag in found.flags]  # type: ignore[misc]  # each is NAME=VALUE
    call = Call(callee=found.callee, arguments=tuple(arguments))
    if not found.draw:
        return call
    drawn = tuple((slot.keyword, text) for slot, text in zip(found.drawn, columns[len(found.slots) :], strict=True))
    return Call(callee=found.draw, arguments=(("", call), *drawn))

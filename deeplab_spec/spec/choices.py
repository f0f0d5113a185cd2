"""The choices: decisions in which implementations of this network differ.

A :class:`Choices` holds a value for every choice; a variant is such a set with a name. The choices determine the
rows, and the rows determine everything else: no layer depends on a variant.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final, get_args, get_origin, get_type_hints

from deeplab_spec.errors import SpecError


class ActivationPlacement(StrEnum):
    """The places of the ReLUs in a backbone block."""

    AFTER = "after"
    BEFORE = "before"
    BEFORE_SPLIT = "before_split"


class DepthwiseActivation(StrEnum):
    """Which separable layers of the backbone have a ReLU between their two convolutions."""

    EVERY = "every"
    EXIT2 = "exit2"
    NONE = "none"


class ConvBias(StrEnum):
    """The convolutions that have a bias although a normalisation follows."""

    EVERY = "every"
    HEAD = "head"
    NONE = "none"


class SkipUnit(StrEnum):
    """The layers after the convolution of a skip path."""

    NORM_AND_ACTIVATION = "norm_and_activation"
    NORM = "norm"
    NONE = "none"


class SkipReads(StrEnum):
    """The input of the skip path of a block."""

    INPUT = "input"
    ACTIVATED_INPUT = "activated_input"


class Exit2Input(StrEnum):
    """The input of the second block of the exit flow."""

    SUM = "sum"
    ACTIVATED_SUM = "activated_sum"


class UnstridedRate(StrEnum):
    """The rates of a block whose stride is removed because the output stride is reached."""

    UNCHANGED = "unchanged"
    DOUBLE_LAST = "double_last"
    DOUBLE_ALL = "double_all"
    LOST_LAST = "lost_last"
    KEEP_STRIDE = "keep_stride"


class SkipRate(StrEnum):
    """The rate of the 1x1 convolution of a skip path; it has no effect."""

    ONE = "one"
    AS_LAST_LAYER = "as_last_layer"


class AtrousPadding(StrEnum):
    """The padding of a 3x3 convolution."""

    RATE = "rate"
    ONE = "one"


class LowLevelTap(StrEnum):
    """The value of the entry flow that the decoder takes as its low-level features."""

    BLOCK1 = "block1"
    BLOCK1_OR_STEM = "block1_or_stem"
    BLOCK2_SEPCONV2 = "block2_sepconv2"
    BLOCK2_SEPCONV2_ACTIVATED = "block2_sepconv2_activated"


class HeadConvs(StrEnum):
    """The kind of the 3x3 convolutions of the pyramid."""

    DENSE = "dense"
    SEPARABLE = "separable"


class DepthwiseUnit(StrEnum):
    """The layers between the two convolutions of a separable layer in the head."""

    NORM_AND_ACTIVATION = "norm_and_activation"
    NORM = "norm"
    BARE = "bare"


class PoolNorm(StrEnum):
    """Whether the image-pooling branch is normalised; otherwise its convolution has a bias."""

    NORM = "norm"
    BIAS = "bias"


class AsppOrder(StrEnum):
    """Order in which the branches of the pyramid are concatenated."""

    POOL_LAST = "pool_last"
    POOL_FIRST = "pool_first"


class DecoderOrder(StrEnum):
    """Order in which the decoder concatenates its two inputs."""

    ASPP_FIRST = "aspp_first"
    LOW_FIRST = "low_first"


class Projection(StrEnum):
    """The layers that reduce the concatenated pyramid to 256 channels."""

    K1 = "1x1"
    K3 = "3x3"
    K1_THEN_SEPARABLE = "1x1_then_separable"


class Decoder(StrEnum):
    """Whether low-level features refine the result."""

    LOW_LEVEL = "low_level"
    NONE = "none"


class DecoderConvs(StrEnum):
    """The convolutions between the decoder's concatenation and the logits."""

    NONE = "none"
    SEPARABLE_1 = "separable_1"
    SEPARABLE_2 = "separable_2"
    DENSE_1 = "dense_1"
    DENSE_2 = "dense_2"
    POINTWISE_1 = "pointwise_1"


class LogitsConv(StrEnum):
    """The convolution that computes one channel per class."""

    K3_BIAS = "3x3_bias"
    K1_BIAS = "1x1_bias"
    K1_AFTER_RESIZE = "1x1_no_bias_after_resize"


class Interpolation(StrEnum):
    """The coordinate rule of a resize."""

    ALIGN_CORNERS = "align_corners"
    HALF_PIXEL = "half_pixel"
    NEAREST = "nearest"


class StridePadding(StrEnum):
    """The padding of a 3x3 convolution with a stride."""

    EXPLICIT = "explicit"
    SAME_STEM = "same_stem"
    SAME = "same"


class Initialisation(StrEnum):
    """The distribution that the weights are drawn from."""

    KAIMING_FAN_IN = "kaiming_fan_in"
    KAIMING_FAN_OUT = "kaiming_fan_out"
    TRUNCATED_NORMAL = "truncated_normal"
    FRAMEWORK_DEFAULT = "framework_default"


class SizesAccepted(StrEnum):
    """The legal input sizes."""

    ANY = "any"
    MULTIPLES = "multiples_of_output_stride"


FOLLOW: Final = "follow_output_stride"

Rates = tuple[int, int, int]
ChoiceValue = StrEnum | str | bool | int | float | tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class About:
    """The description of a choice.

    Attributes:
        meaning: What the choice decides.
        shown_by: How the values can be distinguished in an implementation.
        source: Where the values occur.
        seen: Values that occur in implementations, for choices that are numbers.
    """

    meaning: str
    shown_by: str
    source: str
    seen: tuple[ChoiceValue, ...] = ()


def _choice(meaning: str, shown_by: str, source: str, *seen: ChoiceValue) -> Any:  # noqa: ANN401 - as dataclasses.field
    return dataclasses.field(metadata={"about": About(meaning, shown_by, source, seen)})


_DOCUMENT = "the document and the authors' release"
_PUBLIC = "the document, the authors' release and public ports"
_PAPER = "arXiv:1802.02611 section 3.2, the document and the authors' release"


# fmt: off
@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """A value for every choice.

    Raises:
        SpecError: If a value is outside its range; the message names the choice.
    """

    activation_placement: ActivationPlacement = _choice("where the ReLUs of a backbone block stand", "sign of block outputs", _PUBLIC)
    depthwise_activation: DepthwiseActivation = _choice("ReLU between depthwise and pointwise in the backbone", "graph; response to negative inputs", _PAPER)
    depthwise_norm: bool = _choice("normalisation after a depthwise convolution", "parameter count", _PAPER)
    conv_bias: ConvBias = _choice("bias on a convolution that a normalisation follows", "parameter count", _PUBLIC)
    skip_unit: SkipUnit = _choice("what follows the convolution of a skip", "minimum of the skip", _DOCUMENT)
    skip_reads: SkipReads = _choice("what the skip of a block reads", "negative inputs; the input tensor is changed", _PUBLIC)
    skip_rate: SkipRate = _choice("rate carried by the 1x1 convolution of a skip", "an attribute only", _DOCUMENT)
    exit2_input: Exit2Input = _choice("what the second exit block reads", "graph; negative sums", _PUBLIC)
    unstrided_rate: UnstridedRate = _choice("rates of a block that loses its stride", "consistency across output strides", _PUBLIC)
    exit2_rates: tuple[int, int] = _choice("rates of the second exit block at output strides 16 and 8", "impulse response", _PUBLIC, (1, 2), (2, 2), (2, 4))
    atrous_padding: AtrousPadding = _choice("padding of an atrous 3x3 convolution of the backbone", "map size", _PUBLIC)
    stride_padding: StridePadding = _choice("padding of a strided 3x3 convolution", "even input sizes", _PUBLIC)
    entry_blocks: int = _choice("blocks of the entry flow (3, or 5 for the deepest member)", "count", _DOCUMENT, 3, 5)
    middle_blocks: int = _choice("blocks of the middle flow", "count", _PUBLIC, 8, 16)
    low_level_tap: LowLevelTap = _choice("which value the decoder reads", "width of the low-level projection; minimum of the tap", _PUBLIC)
    aspp_rates: Rates | str = _choice("rates of the pyramid", "impulse offsets", "arXiv:1706.05587 section 3.3, the document and public ports", FOLLOW, (6, 12, 18), (12, 24, 36))
    aspp_convs: HeadConvs = _choice("kind of the pyramid's 3x3 convolutions", "parameter count", _PUBLIC)
    aspp_depthwise: DepthwiseUnit = _choice("between depthwise and pointwise in the pyramid", "parameter count", _PUBLIC)
    aspp_order: AsppOrder = _choice("order of the pyramid's concatenation", "equal once weights are aligned", _DOCUMENT)
    aspp_dropout: float = _choice("dropout after the projection", "training mode", _PUBLIC, 0.0, 0.1, 0.5)
    pool_norm: PoolNorm = _choice("normalisation of the image-pooling branch", "training with a batch of one", _DOCUMENT)
    pool_resize: Interpolation = _choice("resize of the image-pooling branch", "nothing: any resize from 1x1 is a broadcast", _PUBLIC)
    projection: Projection = _choice("how the pyramid becomes 256 channels", "parameter count", _PUBLIC)
    decoder: Decoder = _choice("whether there is a decoder", "parameter count", "arXiv:1802.02611 table 5")
    decoder_order: DecoderOrder = _choice("order of the decoder's concatenation", "equal once weights are aligned", _PUBLIC)
    decoder_convs: DecoderConvs = _choice("convolutions between concatenation and logits", "parameter count, receptive field", _PUBLIC)
    decoder_depthwise: DepthwiseUnit = _choice("between depthwise and pointwise in the decoder", "parameter count", _PUBLIC)
    decoder_dropout: tuple[float, ...] = _choice("dropout after each decoder convolution", "training mode", _PUBLIC, (), (0.5, 0.1))
    decoder_resize: Interpolation = _choice("resize of the pyramid's output", "resize of a ramp", _PUBLIC)
    logits_conv: LogitsConv = _choice("the convolution that gives the logits", "parameter count", _PUBLIC)
    output_resize: Interpolation = _choice("resize of the logits", "resize of a ramp", _PUBLIC)
    backbone_norm_eps: float = _choice("eps of the backbone's normalisations", "channels of low variance", _PUBLIC, 1e-3, 1e-5)
    head_norm_eps: float = _choice("eps of the head's normalisations", "channels of low variance", _PUBLIC, 1e-3, 1e-5)
    norm_momentum: float = _choice("momentum of every normalisation", "running mean after one step", _PUBLIC, 3e-4, 0.1, 0.9997)
    init: Initialisation = _choice("distribution of the initial weights", "sample statistics", _PUBLIC)
    sizes_accepted: SizesAccepted = _choice("legal input sizes", "513 against 512", _PUBLIC)
    width: float = _choice("multiplier of every channel count", "channel counts", "this specification; 1 in every publication", 1.0)

    def __post_init__(self) -> None:
        _within("exit2_rates", "rates must be positive", self.exit2_rates, min(self.exit2_rates) >= 1)
        if isinstance(self.aspp_rates, str):
            _within("aspp_rates", f"must be three rates or {FOLLOW!r}", self.aspp_rates, self.aspp_rates == FOLLOW)
        else:
            _within("aspp_rates", "rates must be positive", self.aspp_rates, min(self.aspp_rates) >= 1)
        _within("entry_blocks", "must be 3 or 5", self.entry_blocks, self.entry_blocks in (3, 5))
        _within("middle_blocks", "must be 1 or more", self.middle_blocks, self.middle_blocks >= 1)
        _within("middle_blocks", "must be at most 1000", self.middle_blocks, self.middle_blocks <= 1000)  # noqa: PLR2004 - stated in the rule
        _within("aspp_dropout", "must be at least 0 and below 1", self.aspp_dropout, 0 <= self.aspp_dropout < 1)
        _within("decoder_dropout", "must be at least 0 and below 1", self.decoder_dropout, all(0 <= p < 1 for p in self.decoder_dropout))
        _within("backbone_norm_eps", "must be positive", self.backbone_norm_eps, self.backbone_norm_eps > 0)
        _within("head_norm_eps", "must be positive", self.head_norm_eps, self.head_norm_eps > 0)
        _within("norm_momentum", "must be above 0 and at most 1", self.norm_momentum, 0 < self.norm_momentum <= 1)
        _within("width", "must be above 0 and at most 4", self.width, 0 < self.width <= 4)  # noqa: PLR2004 - stated in the rule
# fmt: on


def _within(name: str, rule: str, value: object, holds: bool) -> None:  # noqa: FBT001 - one fact
    if not holds:
        raise SpecError(name, rule, value)


NAMES: Final = tuple(field.name for field in fields(Choices))
_TYPES: Final = get_type_hints(Choices)


def about(name: str) -> About:
    """Return the description of a choice.

    Raises:
        SpecError: If there is no such choice.
    """
    for field in fields(Choices):
        if field.name == name:
            description: About = field.metadata["about"]
            return description
    raise SpecError("choice", f"must be one of {', '.join(NAMES)}", name)


def seen_values(name: str) -> tuple[ChoiceValue, ...]:
    """Return the values of a choice that occur in implementations."""
    kind = _TYPES[name]
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return tuple(kind)
    if kind is bool:
        return (True, False)
    return about(name).seen


def parse(name: str, text: str) -> ChoiceValue:
    """Parse the value of a choice as written on the command line.

    Raises:
        SpecError: If there is no such choice, or it cannot have this value.

    >>> parse("aspp_rates", "12,24,36")
    (12, 24, 36)
    >>> parse("decoder", "none")
    <Decoder.NONE: 'none'>
    """
    about(name)
    kind = _TYPES[name]
    try:
        return _read(kind, text.strip())
    except ValueError:
        raise SpecError(name, f"must be {_describe(name, kind)}", text) from None


def _read(kind: Any, text: str) -> ChoiceValue:  # noqa: ANN401 - a type expression
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(text)
    if kind is bool:
        return _boolean(text)
    if kind in (int, float):
        number: int | float = kind(text)
        return number
    if get_origin(kind) is tuple:
        return _read_tuple(kind, text)
    if text == FOLLOW:
        return text
    return _read_tuple(Rates, text)


def _boolean(text: str) -> bool:
    values = {"true": True, "yes": True, "false": False, "no": False}
    if text.lower() not in values:
        raise ValueError(text)
    return values[text.lower()]


def _read_tuple(kind: Any, text: str) -> tuple[int, ...] | tuple[float, ...]:  # noqa: ANN401 - a type expression
    elements = [element for element in get_args(kind) if element is not Ellipsis]
    parts = [part for part in text.strip("()[]").split(",") if part.strip()]
    if Ellipsis not in get_args(kind) and len(parts) != len(elements):
        raise ValueError(text)
    return tuple(elements[0](part) for part in parts)


def _describe(name: str, kind: Any) -> str:  # noqa: ANN401 - a type expression
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return "one of " + ", ".join(kind)
    if kind is bool:
        return "true or false"
    if kind in (int, float):
        return "a number"
    examples = ", ".join(repr(written(value)) for value in seen_values(name))
    return f"numbers with commas between (for example {examples})"


def written(value: ChoiceValue) -> str:
    """Return a value as written on the command line.

    >>> written((12, 24, 36))
    '12,24,36'
    """
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def as_json(choices: Choices) -> dict[str, Any]:
    """Return every choice as JSON data."""
    return {name: plain(getattr(choices, name)) for name in NAMES}


def plain(value: ChoiceValue) -> str | bool | int | float | list[int] | list[float]:
    """Return a value as JSON data."""
    result: str | bool | int | float | list[int] | list[float] = json.loads(json.dumps(value))
    return result


def choose(choices: Choices, overrides: Mapping[str, ChoiceValue]) -> Choices:
    """Return the choices with some overridden.

    Raises:
        SpecError: If a name is not a choice or a value is out of range.
    """
    for name in overrides:
        about(name)
    return dataclasses.replace(choices, **dict(overrides))  # type: ignore[arg-type]  # parse checks the types


def read_overrides(arguments: Iterable[str]) -> dict[str, ChoiceValue]:
    """Parse ``NAME=VALUE`` arguments.

    Raises:
        SpecError: If an argument has no equals sign, or its name or value is unknown.

    >>> read_overrides(["middle_blocks=8"])
    {'middle_blocks': 8}
    """
    overrides: dict[str, ChoiceValue] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals:
            raise SpecError("--choose", "must be NAME=VALUE", argument)
        overrides[name.strip()] = parse(name.strip(), text)
    return overrides


def overrides_between(base: Choices, choices: Choices) -> dict[str, ChoiceValue]:
    """Return the choices that differ from a base, with their values."""
    return {name: getattr(choices, name) for name in NAMES if getattr(base, name) != getattr(choices, name)}

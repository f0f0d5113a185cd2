"""The choices: decisions in which implementations of this network differ.

A :class:`Choices` holds a value for every choice; a variant is such a set with a name. The choices determine the
rows, and the rows determine everything else: no layer depends on a variant.

The choices of the head, and those that every backbone has, stand here. A family of backbones adds its own in
:mod:`deeplab_spec.spec.backbones`.
"""

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Final, get_args, get_origin, get_type_hints

from deeplab_spec.errors import SpecError

if TYPE_CHECKING:
    from deeplab_spec.spec.rows import BackboneRows


class ConvBias(StrEnum):
    """The convolutions that have a bias although a normalisation follows."""

    EVERY = "every"
    HEAD = "head"
    NONE = "none"


class HeadConvs(StrEnum):
    """The kind of the 3x3 convolutions of the pyramid; the cell has branches that read each other."""

    DENSE = "dense"
    SEPARABLE = "separable"
    DENSE_PREDICTION_CELL = "dense_prediction_cell"


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
    K1_THEN_DENSE = "1x1_then_dense"


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


class OutputResize(StrEnum):
    """The coordinate rule of the resize of the logits; without one they stay at the decoder's size."""

    ALIGN_CORNERS = "align_corners"
    HALF_PIXEL = "half_pixel"
    NEAREST = "nearest"
    NONE = "none"


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
    VARIANCE_SCALING = "variance_scaling"
    KAIMING_UNIFORM = "kaiming_uniform"
    XAVIER_UNIFORM = "xavier_uniform"
    NORMAL = "normal"


class SizesAccepted(StrEnum):
    """The legal input sizes."""

    ANY = "any"
    MULTIPLES = "multiples_of_output_stride"


class Results(StrEnum):
    """What evaluation returns: the tensor of logits, or every result by its name."""

    TENSOR = "tensor"
    NAMED = "named"


class UnstridedRate(StrEnum):
    """The rate of a unit whose stride is removed: that of the units before it, or of those after it."""

    UNCHANGED = "unchanged"
    AT_ONCE = "at_once"


class AuxiliaryHead(StrEnum):
    """Whether a second head gives logits of a value inside the backbone."""

    NONE = "none"
    FCN = "fcn"


FOLLOW: Final = "follow_output_stride"
AS_HEAD: Final = "as_head"
"""The value of a choice of the backbone that has the head's."""

Rates = tuple[int, ...]
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


def choice(meaning: str, shown_by: str, source: str, *seen: ChoiceValue) -> Any:  # noqa: ANN401 - as dataclasses.field
    """Return the field of a choice with its description."""
    return dataclasses.field(metadata={"about": About(meaning, shown_by, source, seen)})


DOCUMENT: Final = "the document and the authors' release"
PUBLIC: Final = "the document, the authors' release and public ports"
PAPER: Final = "arXiv:1802.02611 section 3.2, the document and the authors' release"
FAMILY: Final = "the authors' release, torchvision, segmentation_models_pytorch and other public ports"


# fmt: off
@dataclass(frozen=True, slots=True, kw_only=True)
class Choices(ABC):
    """A value for every choice of a family.

    Attributes:
        family: Name of the family of backbones.
        title: The family in words.
        short: Choices of a short network that has every kind of block.

    Raises:
        SpecError: If a value is outside its range; the message names the choice.
    """

    family: ClassVar[str]
    title: ClassVar[str]
    short: "ClassVar[Mapping[str, ChoiceValue]]"

    conv_bias: ConvBias = choice("bias on a convolution that a normalisation follows", "parameter count", PUBLIC)
    stride_padding: StridePadding = choice("padding of a strided 3x3 convolution", "even input sizes", PUBLIC)
    aspp_rates: Rates | str = choice("rates of the pyramid", "impulse offsets", "arXiv:1706.05587 section 3.3, the document and public ports", FOLLOW, (6, 12, 18), (12, 24, 36))
    aspp_convs: HeadConvs = choice("kind of the pyramid's 3x3 convolutions", "parameter count", PUBLIC)
    aspp_depthwise: DepthwiseUnit = choice("between depthwise and pointwise in the pyramid", "parameter count", PUBLIC)
    aspp_order: AsppOrder = choice("order of the pyramid's concatenation", "equal once weights are aligned", DOCUMENT)
    aspp_dropout: float = choice("dropout after the projection", "training mode", PUBLIC, 0.0, 0.1, 0.5)
    pool_norm: PoolNorm = choice("normalisation of the image-pooling branch", "training with a batch of one", DOCUMENT)
    pool_resize: Interpolation = choice("resize of the image-pooling branch", "nothing: any resize from 1x1 is a broadcast", PUBLIC)
    projection: Projection = choice("how the pyramid becomes 256 channels", "parameter count", PUBLIC)
    decoder: Decoder = choice("whether there is a decoder", "parameter count", "arXiv:1802.02611 table 5")
    decoder_order: DecoderOrder = choice("order of the decoder's concatenation", "equal once weights are aligned", PUBLIC)
    decoder_convs: DecoderConvs = choice("convolutions between concatenation and logits", "parameter count, receptive field", PUBLIC)
    decoder_depthwise: DepthwiseUnit = choice("between depthwise and pointwise in the decoder", "parameter count", PUBLIC)
    decoder_dropout: tuple[float, ...] = choice("dropout after each decoder convolution", "training mode", PUBLIC, (), (0.5, 0.1))
    decoder_resize: Interpolation = choice("resize of the pyramid's output", "resize of a ramp", PUBLIC)
    logits_conv: LogitsConv = choice("the convolution that gives the logits", "parameter count", PUBLIC)
    output_resize: OutputResize = choice("resize of the logits", "resize of a ramp", PUBLIC)
    backbone_norm_eps: float = choice("eps of the backbone's normalisations", "channels of low variance", PUBLIC, 1e-3, 1e-5)
    head_norm_eps: float = choice("eps of the head's normalisations", "channels of low variance", PUBLIC, 1e-3, 1e-5)
    norm_momentum: float = choice("momentum of the normalisations", "running mean after one step", PUBLIC, 3e-4, 0.1, 0.9997)
    backbone_norm_momentum: float | str = choice("momentum of the backbone's normalisations", "running mean after one step", FAMILY, AS_HEAD, 0.003, 0.05, 0.1)
    init: Initialisation = choice("distribution of the initial weights", "sample statistics", PUBLIC)
    backbone_init: Initialisation | str = choice("distribution of the backbone's initial weights", "sample statistics", FAMILY, AS_HEAD, *Initialisation)
    results: Results = choice("what evaluation returns", "the returned type", FAMILY)
    sizes_accepted: SizesAccepted = choice("legal input sizes", "513 against 512", PUBLIC)
    width: float = choice("multiplier of every channel count", "channel counts", "this specification; 1 in every publication", 1.0)

    def __post_init__(self) -> None:
        if isinstance(self.aspp_rates, str):
            within("aspp_rates", f"must be rates or {FOLLOW!r}", self.aspp_rates, self.aspp_rates == FOLLOW)
        else:
            within("aspp_rates", "rates must be positive", self.aspp_rates, min(self.aspp_rates, default=1) >= 1)
        for name in ("backbone_norm_momentum", "backbone_init"):
            value = getattr(self, name)
            if type(value) is str:
                within(name, f"must be a value of its own or {AS_HEAD!r}", value, value == AS_HEAD)
        if isinstance(self.backbone_norm_momentum, float):
            momentum = self.backbone_norm_momentum
            within("backbone_norm_momentum", "must be above 0 and at most 1", momentum, 0 < momentum <= 1)
        within("aspp_dropout", "must be at least 0 and below 1", self.aspp_dropout, 0 <= self.aspp_dropout < 1)
        within("decoder_dropout", "must be at least 0 and below 1", self.decoder_dropout, all(0 <= p < 1 for p in self.decoder_dropout))
        within("backbone_norm_eps", "must be positive", self.backbone_norm_eps, self.backbone_norm_eps > 0)
        within("head_norm_eps", "must be positive", self.head_norm_eps, self.head_norm_eps > 0)
        within("norm_momentum", "must be above 0 and at most 1", self.norm_momentum, 0 < self.norm_momentum <= 1)
        within("width", "must be above 0 and at most 4", self.width, 0 < self.width <= 4)  # noqa: PLR2004 - stated in the rule

    @property
    @abstractmethod
    def base_channels(self) -> tuple[int, ...]:
        """Every channel count of the network at width 1, ascending, without image and classes."""

    @property
    def second_head(self) -> bool:
        """Whether a second head gives logits of a value inside the backbone."""
        return getattr(self, "auxiliary", AuxiliaryHead.NONE) is AuxiliaryHead.FCN

    @property
    @abstractmethod
    def activations(self) -> str:
        """Where the activations of the backbone stand, for the caption of a drawing."""

    @abstractmethod
    def backbone_rows(self, output_stride: int, reported: int | None = None) -> "BackboneRows":
        """Return the rows of the backbone.

        ``reported`` is the output stride that the backbone reports; by default the true one.

        Raises:
            SpecError: If there is no such output stride.
        """
# fmt: on


def within(name: str, rule: str, value: object, holds: bool) -> None:  # noqa: FBT001 - one fact
    """Check one rule of a choice's value.

    Raises:
        SpecError: If it does not hold.
    """
    if not holds:
        raise SpecError(name, rule, value)


@cache
def names(family: type[Choices]) -> tuple[str, ...]:
    """Return the names of a family's choices: its own, then those that every family has."""
    shared = tuple(field.name for field in fields(Choices))
    return (*(field.name for field in fields(family) if field.name not in shared), *shared)


@cache
def _types(family: type[Choices]) -> dict[str, Any]:
    return get_type_hints(family)


def about(name: str, family: type[Choices]) -> About:
    """Return the description of a choice.

    Raises:
        SpecError: If the family has no such choice; the message lists those that it has.
    """
    for field in fields(family):
        if field.name == name:
            description: About = field.metadata["about"]
            return description
    raise SpecError("choice", f"must be one of {', '.join(names(family))} (of {family.family})", name)


def seen_values(name: str, family: type[Choices]) -> tuple[ChoiceValue, ...]:
    """Return the values of a choice that occur in implementations."""
    kind = _types(family)[name]
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return tuple(kind)
    if kind is bool:
        return (True, False)
    return about(name, family).seen


def parse(name: str, text: str, family: type[Choices]) -> ChoiceValue:
    """Parse the value of a choice as written on the command line.

    Raises:
        SpecError: If there is no such choice, or it cannot have this value.

    >>> from deeplab_spec.spec.backbones.xception import XceptionChoices
    >>> parse("aspp_rates", "12,24,36", XceptionChoices)
    (12, 24, 36)
    >>> parse("decoder", "none", XceptionChoices)
    <Decoder.NONE: 'none'>
    """
    about(name, family)
    kind = _types(family)[name]
    try:
        return _read(kind, text.strip())
    except (ValueError, KeyError):
        raise SpecError(name, f"must be {_describe(name, kind, family)}", text) from None


_BOOLEANS: Final = {"true": True, "yes": True, "false": False, "no": False}


def _read(kind: Any, text: str) -> ChoiceValue:  # noqa: ANN401 - a type expression
    if get_origin(kind) is UnionType:
        return text if text in (FOLLOW, AS_HEAD) else _read(get_args(kind)[0], text)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return kind(text)
    if kind is bool:
        return _BOOLEANS[text.lower()]
    if kind in (int, float):
        number: int | float = kind(text)
        return number
    return _read_tuple(kind, text)


def _read_tuple(kind: Any, text: str) -> tuple[int, ...] | tuple[float, ...]:  # noqa: ANN401 - a type expression
    elements = [element for element in get_args(kind) if element is not Ellipsis]
    parts = [part for part in text.strip("()[]").split(",") if part.strip()]
    if Ellipsis not in get_args(kind) and len(parts) != len(elements):
        raise ValueError(text)
    return tuple(elements[0](part) for part in parts)


def _describe(name: str, kind: Any, family: type[Choices]) -> str:  # noqa: ANN401 - a type expression
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return "one of " + ", ".join(kind)
    if kind is bool:
        return "true or false"
    if kind in (int, float):
        return "a number"
    examples = ", ".join(repr(written(value)) for value in seen_values(name, family))
    if get_origin(kind) is UnionType and get_origin(get_args(kind)[0]) is not tuple:
        return f"for example {examples}"
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
    return {name: plain(getattr(choices, name)) for name in names(type(choices))}


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
        about(name, type(choices))
    return dataclasses.replace(choices, **dict(overrides))  # type: ignore[arg-type]  # parse checks the types


def read_overrides(arguments: Iterable[str], family: type[Choices]) -> dict[str, ChoiceValue]:
    """Parse ``NAME=VALUE`` arguments.

    Raises:
        SpecError: If an argument has no equals sign, or its name or value is unknown.

    >>> from deeplab_spec.spec.backbones.xception import XceptionChoices
    >>> read_overrides(["middle_blocks=8"], XceptionChoices)
    {'middle_blocks': 8}
    """
    overrides: dict[str, ChoiceValue] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals:
            raise SpecError("--choose", "must be NAME=VALUE", argument)
        overrides[name.strip()] = parse(name.strip(), text, family)
    return overrides


def overrides_between(base: Choices, choices: Choices) -> dict[str, ChoiceValue]:
    """Return the choices that differ from a base, with their values; of another family, those of the head.

    >>> from deeplab_spec.spec.variants import SMP_RESNET50, TF_RELEASE
    >>> sorted(overrides_between(TF_RELEASE.choices, SMP_RESNET50.choices))[:3]
    ['aspp_depthwise', 'aspp_dropout', 'aspp_order']
    """
    shared = names(type(base) if type(base) is type(choices) else Choices)
    return {name: getattr(choices, name) for name in shared if getattr(base, name) != getattr(choices, name)}

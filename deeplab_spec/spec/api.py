"""Networks by name: what the package's public functions start from, and the subject of an analysis."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Pair
from deeplab_spec.spec.choices import Choices, ChoiceValue, choose, overrides_between, parse, written
from deeplab_spec.spec.head import check_classes
from deeplab_spec.spec.network import DEFAULT_CLASSES, check_output_stride, graph, rows
from deeplab_spec.spec.rows import NetworkRows
from deeplab_spec.spec.variants import Variant
from deeplab_spec.spec.variants import variant as named

Override = StrEnum | str | bool | int | float | Sequence[int] | Sequence[float]
"""A choice's value as a caller may write it."""


def overridden(choices: Choices, overrides: Mapping[str, Override] | None) -> Choices:
    """Return the choices with some overridden; values may be written as on the command line.

    Raises:
        SpecError: If a name is not a choice, or a value is out of range.
    """
    return choose(
        choices, {name: parse(name, _written(value), type(choices)) for name, value in (overrides or {}).items()}
    )


def written_overrides(overrides: Mapping[str, Override] | None) -> tuple[str, ...]:
    """Return overrides as ``NAME=VALUE``, as on the command line.

    >>> written_overrides({"aspp_rates": (12, 24, 36), "depthwise_norm": False})
    ('aspp_rates=12,24,36', 'depthwise_norm=false')
    """
    return tuple(f"{name}={_written(value)}" for name, value in (overrides or {}).items())


def _written(value: Override) -> str:
    return written(value) if isinstance(value, str | bool | int | float) else ",".join(map(str, value))


def read_arguments(arguments: Iterable[str] | None, option: str = "--arg") -> dict[str, str]:
    """Parse the keyword arguments of a builder, written as ``NAME=VALUE``.

    Raises:
        SpecError: If an argument has no equals sign, or its name is not an identifier.

    >>> read_arguments(["encoder=xception"])
    {'encoder': 'xception'}
    """
    parsed = {}
    for argument in arguments or ():
        name, equals, value = argument.partition("=")
        if not equals or not name.isidentifier():
            raise SpecError(option, "must be NAME=VALUE", argument)
        parsed[name] = value
    return parsed


def table(
    variant: str,
    output_stride: int = 16,
    num_classes: int = DEFAULT_CLASSES,
    choices: Mapping[str, Override] | None = None,
) -> NetworkRows:
    """Return the rows of a variant; the arguments and errors are those of :func:`network`."""
    published = named(variant)
    check_output_stride(published, output_stride)
    decided = overridden(published.choices, choices)
    return rows(decided, output_stride, num_classes, published.reported_output_stride)


def network(
    variant: str,
    output_stride: int = 16,
    num_classes: int = DEFAULT_CLASSES,
    choices: Mapping[str, Override] | None = None,
) -> Network:
    """Return the graph of a variant.

    Args:
        variant: Name of the variant.
        output_stride: Input pixels per pixel of the backbone's features.
        num_classes: Channels of the logits.
        choices: Choices that differ from the variant's.

    Raises:
        SpecError: A ValueError, if the variant is unknown or does not support the output stride, the number of
            classes is below 1, or a choice cannot have its value.

    >>> network("tf-release", output_stride=8)["aspp.atrous1.depthwise.conv"].op.rate
    (12, 12)
    """
    return graph(table(variant, output_stride, num_classes, choices))


USUAL_SIDE: Final = 513
"""Height and width of the crops that the papers evaluate."""

MOST_PIXELS: Final = 1_000_000
"""The longest side of an image that anything is computed for."""


def usual_size(variant: Variant, output_stride: int) -> Pair:
    """Return the size at which networks are compared: 513x513, or the next smaller one that a network accepts.

    >>> from deeplab_spec.spec.variants import SMP_RESNET34
    >>> usual_size(SMP_RESNET34, 16)
    (512, 512)
    """
    multiple = rows(variant.choices, output_stride, DEFAULT_CLASSES).size_multiple
    side = USUAL_SIDE // multiple * multiple
    return (side, side)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One network of the specification, at one input size.

    Attributes:
        variant: The published network.
        choices: A value for every choice.
        output_stride: Input pixels per pixel of the backbone's result.
        size: Height and width of the input.
        classes: Channels of the logits.

    Raises:
        SpecError: If the variant does not support the output stride, the size is not legal, or the number of classes
            is below 1.
    """

    variant: Variant
    choices: Choices
    output_stride: int = 16
    size: Pair = (513, 513)
    classes: int = DEFAULT_CLASSES

    def __post_init__(self) -> None:
        check_output_stride(self.variant, self.output_stride)
        check_classes(self.classes)
        if min(self.size) < 1:
            raise SpecError("size", "height and width must be 1 or more", self.size)
        if max(self.size) > MOST_PIXELS:
            raise SpecError("size", f"height and width must be at most {MOST_PIXELS:,}", self.size)
        multiple = self.rows().size_multiple
        if any(side % multiple for side in self.size):
            raise SpecError("size", f"height and width must be multiples of {multiple}", self.size)

    def rows(self) -> NetworkRows:
        """Return the rows of the network."""
        return rows(self.choices, self.output_stride, self.classes, self.variant.reported_output_stride)

    def network(self) -> Network:
        """Return the network's graph."""
        return graph(self.rows())

    @property
    def overrides(self) -> dict[str, ChoiceValue]:
        """The choices that differ from the variant's."""
        return overrides_between(self.variant.choices, self.choices)

    @property
    def title(self) -> str:
        """The subject in one line."""
        changes = ", ".join(f"{name}={written(value)}" for name, value in self.overrides.items())
        name = f"{self.variant.name} with {changes}" if changes else self.variant.name
        height, width = self.size
        return f"{name}, output stride {self.output_stride}, {height}x{width}, {self.classes} classes"

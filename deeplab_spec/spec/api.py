"""Networks by name: what the package's public functions start from."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from deeplab_spec.errors import SpecError
from deeplab_spec.graph.network import Network
from deeplab_spec.spec.choices import Choices, ChoiceValue, choose, parse, written
from deeplab_spec.spec.network import DEFAULT_CLASSES, check_output_stride, graph, rows
from deeplab_spec.spec.rows import NetworkRows
from deeplab_spec.spec.variants import variant as named

Override = StrEnum | str | bool | int | float | Sequence[int] | Sequence[float]
"""A choice's value as a caller may write it."""


def overridden(choices: Choices, overrides: Mapping[str, Override] | None) -> Choices:
    """Return the choices with some overridden; values may be written as on the command line.

    Raises:
        SpecError: If a name is not a choice, or a value is out of range.
    """
    return choose(choices, {name: _read(name, value) for name, value in (overrides or {}).items()})


def _read(name: str, value: Override) -> ChoiceValue:
    return parse(name, _written(value))


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
    """Return the rows of a variant.

    Args:
        variant: Name of the variant.
        output_stride: Input pixels per pixel of the backbone's features.
        num_classes: Channels of the logits.
        choices: Choices that differ from the variant's.

    Raises:
        SpecError: A ValueError, if the variant is unknown or does not support the output stride, the number of
            classes is below 1, or a choice cannot have its value.
    """
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

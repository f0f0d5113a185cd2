"""The options that commands share, and how their values are read and completed."""

from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from deeplab_spec.analysis.protocol import Protocol
from deeplab_spec.analysis.subject import Subject
from deeplab_spec.errors import SpecError
from deeplab_spec.graph.ops import Pair
from deeplab_spec.spec import choices as c
from deeplab_spec.spec.variants import NOTEBOOK, VARIANTS, variant

_SIDES = (1, 2)


def complete_variant(incomplete: str) -> list[tuple[str, str]]:
    """Return the variants that a shell can complete to, with a line on each."""
    return [(entry.name, entry.title) for entry in VARIANTS if entry.name.startswith(incomplete)]


def complete_choice(incomplete: str) -> list[tuple[str, str]]:
    """Return names of choices, or the known values of the choice that is already named."""
    name, equals, value = incomplete.partition("=")
    if not equals:
        return [(f"{choice}=", c.about(choice).meaning) for choice in c.NAMES if choice.startswith(name)]
    if name not in c.NAMES:
        return []
    texts = [c.written(seen) for seen in c.seen_values(name)]
    return [(f"{name}={text}", c.about(name).meaning) for text in texts if text.startswith(value)]


VARIANT_NAMES = ", ".join(entry.name for entry in VARIANTS)

VariantOption = Annotated[
    str,
    typer.Option(
        "--variant", metavar="NAME", autocompletion=complete_variant, help=f"The published network: {VARIANT_NAMES}."
    ),
]
ChooseOption = Annotated[
    list[str] | None,
    typer.Option(
        "--choose",
        metavar="NAME=VALUE",
        autocompletion=complete_choice,
        help="Decide one choice otherwise than the variant; repeat for several.",
    ),
]
OutputStrideOption = Annotated[
    int, typer.Option("--output-stride", metavar="N", help="Input pixels per pixel of the backbone's result.")
]
SizeOption = Annotated[
    str, typer.Option("--size", metavar="HxW", help="Height and width of the input; one number for a square.")
]
ClassesOption = Annotated[int, typer.Option("--classes", metavar="N", help="Channels of the logits.")]
ArgumentOption = Annotated[
    list[str] | None,
    typer.Option(
        "--arg",
        metavar="NAME=VALUE",
        help="Keyword argument of what builds it; {output_stride} and {classes} are filled in.",
    ),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the report to a file, not to stdout.")
]
WaiversOption = Annotated[
    Path | None,
    typer.Option("--waivers", metavar="FILE", help="TOML file of findings that are accepted, each with an expiry."),
]
TodayOption = Annotated[
    datetime | None,
    typer.Option("--today", metavar="YYYY-MM-DD", formats=["%Y-%m-%d"], help="Day for the expiry. [the present, UTC]"),
]
SchemaOption = Annotated[
    bool, typer.Option("--json-schema", help="Print the JSON Schema of the JSON document, and exit.")
]


def read_size(text: str) -> Pair:
    """Read a height and a width.

    Raises:
        SpecError: If the text is neither ``HxW`` nor one number, or a side is not positive.

    >>> read_size("513x257"), read_size("512")
    ((513, 257), (512, 512))
    """
    parts = text.lower().split("x")
    if len(parts) not in _SIDES or not all(part.isascii() and part.isdigit() for part in parts):
        raise SpecError("--size", "must be HxW, or one number for a square", text)
    height, width = int(parts[0]), int(parts[-1])
    if min(height, width) < 1:
        raise SpecError("--size", "height and width must be 1 or more", text)
    return height, width


def read_subject(name: str, choose: list[str] | None, output_stride: int, size: str, classes: int) -> Subject:
    """Return the network that the options name.

    Raises:
        SpecError: If an option has a value that it cannot have.
    """
    named = variant(name)
    return Subject(
        variant=named,
        choices=c.choose(named.choices, c.read_overrides(choose or ())),
        output_stride=output_stride,
        size=read_size(size),
        classes=classes,
    )


def read_arguments(arguments: list[str] | None) -> dict[str, str]:
    """Read keyword arguments.

    >>> read_arguments(["encoder=xception"])
    {'encoder': 'xception'}
    """
    read = {}
    for argument in arguments or ():
        name, equals, value = argument.partition("=")
        if not equals or not name.isidentifier():
            raise typer.BadParameter(f"must be NAME=VALUE, but got {argument!r}", param_hint="--arg")
        read[name] = value
    return read


def read_scales(text: str) -> tuple[Fraction, ...]:
    """Read scales with commas between.

    Raises:
        SpecError: If one is not a positive number.

    >>> read_scales("0.5,1")
    (Fraction(1, 2), Fraction(1, 1))
    """
    try:
        return Protocol(scales=tuple(Fraction(part.strip()) for part in text.split(","))).scales
    except (ValueError, ZeroDivisionError) as error:
        raise SpecError("--scales", "must be positive numbers with commas between", text) from error


DEFAULT_VARIANT = NOTEBOOK.name
DEFAULT_SIZE = "513x513"

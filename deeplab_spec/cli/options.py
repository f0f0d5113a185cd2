"""The arguments and options that commands share; their values are parsed and completed here."""

from datetime import datetime
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer
from typer.models import OptionInfo

from deeplab_spec.analysis.protocol import Protocol
from deeplab_spec.capture.candidate.start import TIMEOUT, ProcessSettings
from deeplab_spec.errors import SpecError
from deeplab_spec.graph.ops import Pair
from deeplab_spec.spec import choices as c
from deeplab_spec.spec.api import Subject, usual_size
from deeplab_spec.spec.variants import FAMILIES, NOTEBOOK, VARIANTS, variant

_SIDES = (1, 2)


def complete_variant(incomplete: str) -> list[tuple[str, str]]:
    """Return the variants that complete a text, with their titles."""
    return [(entry.name, entry.title) for entry in VARIANTS if entry.name.startswith(incomplete)]


def complete_choice(incomplete: str) -> list[tuple[str, str]]:
    """Return the names of choices that complete a text, or after ``NAME=`` the known values of the choice."""
    name, equals, value = incomplete.partition("=")
    if not equals:
        known = {choice: family for family in reversed(FAMILIES) for choice in c.names(family)}
        return [(f"{choice}=", c.about(choice, of).meaning) for choice, of in known.items() if choice.startswith(name)]
    texts = {
        c.written(known): c.about(name, family).meaning
        for family in FAMILIES
        if name in c.names(family)
        for known in c.seen_values(name, family)
    }
    return [(f"{name}={text}", meaning) for text, meaning in texts.items() if text.startswith(value)]


def complete_target(incomplete: str) -> list[str]:
    """Return the references that complete a text."""
    references = [f"reference:{entry.name}" for entry in VARIANTS]
    return [reference for reference in references if reference.startswith(incomplete)]


SOME_VARIANTS = f"notebook, tf-release, ... (a wrong name lists all {len(VARIANTS)})"

Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        autocompletion=complete_target,
        help="The network: MODULE:CALLABLE or FILE.py:CALLABLE, reference:VARIANT, or a file (.pt2, .onnx).",
        show_default=False,
    ),
]


def variant_option(text: str) -> OptionInfo:
    """Return the option that names a published network, with its help."""
    option: OptionInfo = typer.Option("--variant", metavar="NAME", autocompletion=complete_variant, help=text)
    return option


Variant = Annotated[str, variant_option(f"The published network: {SOME_VARIANTS}.")]
Choose = Annotated[
    list[str] | None,
    typer.Option(
        "--choose",
        metavar="NAME=VALUE",
        autocompletion=complete_choice,
        help="Override one choice of the variant; repeat for several.",
    ),
]
OutputStride = Annotated[
    int, typer.Option("--output-stride", metavar="N", help="Input pixels per pixel of the backbone's output.")
]
TargetStrides = Annotated[
    list[int] | None,
    typer.Option(
        "--output-stride",
        metavar="N",
        help="Output stride to build it with; repeat for several. [16; for a file: its own]",
    ),
]
Size = Annotated[
    str | None, typer.Option("--size", metavar="HxW", help="Height and width of the input, or one number. [513]")
]
Classes = Annotated[int, typer.Option("--classes", metavar="N", help="Channels of the logits.")]
TargetClasses = Annotated[
    int | None, typer.Option("--classes", metavar="N", help="Channels of the logits. [21; for a file: its own]")
]
Arguments = Annotated[
    list[str] | None,
    typer.Option(
        "--arg",
        metavar="NAME=VALUE",
        help="Keyword argument of the builder; {output_stride} and {classes} become their values; repeatable.",
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write the report to a file instead of stdout.")
]
Waivers = Annotated[
    Path | None,
    typer.Option("--waivers", metavar="FILE", help="TOML file of accepted findings with reason and expiry."),
]
Today = Annotated[
    datetime | None,
    typer.Option(
        "--today", metavar="YYYY-MM-DD", formats=["%Y-%m-%d"], help="Date to check expiry against. [today, UTC]"
    ),
]
Python = Annotated[
    Path | None,
    typer.Option("--python", metavar="PATH", help="The Python of the environment that the target runs in. [this one]"),
]
Search = Annotated[
    list[Path] | None,
    typer.Option("--search", metavar="DIR", help="Search the target's module here too, before the current folder."),
]
Timeout = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Seconds that an answer of the target may take.")
]
Memory = Annotated[
    float,
    typer.Option("--memory", metavar="GIB", min=0.0, help="Memory that the target may allocate, in GiB. [no limit]"),
]
Shard = Annotated[
    str | None,
    typer.Option("--shard", metavar="K/N", help="Do only part K of N parts of equal cost; merge puts them together."),
]
Pieces = Annotated[
    Path | None,
    typer.Option("--pieces", metavar="DIR", help="Keep every finished piece here, and do none again that is here."),
]
Costs = Annotated[
    list[Path] | None,
    typer.Option("--costs", metavar="DIR", help="Cut shards by the times in this folder of --pieces; repeatable."),
]
Ray = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Run the pieces on this Ray cluster: auto, HOST:PORT, or local."),
]
PieceCpus = Annotated[
    float, typer.Option("--piece-cpus", metavar="N", min=0.0, help="Cores that Ray gives to a piece.")
]
PieceGpus = Annotated[float, typer.Option("--piece-gpus", metavar="N", min=0.0, help="GPUs that Ray gives to a piece.")]
Json = Annotated[bool, typer.Option("--json", help="Print the JSON document.")]
Schema = Annotated[bool, typer.Option("--json-schema", help="Print the JSON Schema of the JSON document, and exit.")]


class ListFormat(StrEnum):
    """The formats of a list of the specification."""

    TABLE = "table"
    MARKDOWN = "markdown"
    JSON = "json"


Format = Annotated[ListFormat, typer.Option("--format", help="Format of the list.")]
ListedVariant = Annotated[
    str | None, variant_option(f"List those of this network, with the values of its choices: {SOME_VARIANTS}.")
]


def process_settings(python: Path | None, search: list[Path] | None, timeout: float, memory: float) -> ProcessSettings:
    """Return how the target's process is started, from the options of these names."""
    return ProcessSettings(
        python=str(python or ""), search=tuple(map(str, search or ())), timeout=timeout, memory=int(memory * 2**30)
    )


def read_size(text: str) -> Pair:
    """Parse a height and a width.

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


def default_size(name: str | None, output_stride: int) -> str:
    """Return the size for a variant if none is given: 513x513, or 512x512 where only multiples are accepted.

    >>> default_size("smp-resnet34", 16), default_size(None, 16)
    ('512x512', '513x513')
    """
    published = variant(name) if name else NOTEBOOK
    known = output_stride in published.output_strides
    return "x".join(map(str, usual_size(published, output_stride))) if known else DEFAULT_SIZE


def read_subject(name: str, choose: list[str] | None, output_stride: int, size: str | None, classes: int) -> Subject:
    """Return the network that the options describe.

    Raises:
        SpecError: If an option has a value that it cannot have.
    """
    published = variant(name)
    return Subject(
        variant=published,
        choices=c.choose(published.choices, c.read_overrides(choose or (), published.family)),
        output_stride=output_stride,
        size=read_size(size or default_size(name, output_stride)),
        classes=classes,
    )


def read_scales(text: str) -> tuple[Fraction, ...]:
    """Parse scales that are separated by commas.

    Raises:
        SpecError: If one is not a positive number.

    >>> read_scales("0.5,1")
    (Fraction(1, 2), Fraction(1, 1))
    """
    try:
        return Protocol(scales=tuple(Fraction(part.strip()) for part in text.split(","))).scales
    except (ValueError, ZeroDivisionError) as error:
        raise SpecError("--scales", "must be positive numbers separated by commas", text) from error


DEFAULT_VARIANT = NOTEBOOK.name
DEFAULT_TIMEOUT = TIMEOUT
DEFAULT_SIZE = "513x513"

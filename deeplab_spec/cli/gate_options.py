"""The options of ``gate`` that choose and change a case."""

from math import isfinite
from typing import Annotated, Any

import typer

from deeplab_spec.cli.options import complete_variant, read_size
from deeplab_spec.errors import SpecError
from deeplab_spec.gate.cases import CASES, CPU_FORWARD, DEVICES, MODES, PASSES, Case, case, case_for, changed, read_mode
from deeplab_spec.gate.pairs import NO_PLANT, Plant
from deeplab_spec.spec.choices import read_overrides, written
from deeplab_spec.spec.variants import variant

_OF_CASE = "[the case's]"


def _complete_case(incomplete: str) -> list[tuple[str, str]]:
    return [(entry.name, entry.reason) for entry in CASES if entry.name.startswith(incomplete)]


CaseOption = Annotated[
    list[str] | None,
    typer.Option(
        "--case",
        metavar="NAME",
        autocompletion=_complete_case,
        help=f"What is timed; repeat for several: {', '.join(entry.name for entry in CASES)}. [{CPU_FORWARD.name}]",
    ),
]
VariantOption = Annotated[
    str | None,
    typer.Option(
        "--variant",
        metavar="NAME",
        autocompletion=complete_variant,
        help=f"The network, for a builder with this argument. {_OF_CASE}",
    ),
]
OutputStrideOption = Annotated[
    int | None,
    typer.Option(
        "--output-stride", metavar="N", help=f"The output stride, for a builder with this argument. {_OF_CASE}"
    ),
]
SizeOption = Annotated[
    str | None, typer.Option("--size", metavar="HxW", help=f"Height and width of the images. {_OF_CASE}")
]
BatchOption = Annotated[int | None, typer.Option("--batch", metavar="N", help=f"Images per run. {_OF_CASE}")]
DirectionOption = Annotated[
    str | None, typer.Option("--direction", metavar="NAME", help=f"{' or '.join(PASSES)}. {_OF_CASE}")
]
ModeOption = Annotated[
    str | None, typer.Option("--mode", metavar="MODE", help=f"Parts joined by +: {', '.join(MODES)}. {_OF_CASE}")
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="NAME", help=f"{' or '.join(DEVICES)}; without --case it also chooses the case. {_OF_CASE}"
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", metavar="N", help=f"Threads of each process. {_OF_CASE}")
]
RoundsOption = Annotated[int | None, typer.Option("--rounds", metavar="N", help=f"Samples of each process. {_OF_CASE}")]
PlantOption = Annotated[
    str,
    typer.Option(
        "--plant",
        metavar="WHAT",
        help="Slow HEAD down to test the gate: wait=0.03 (a share of its own time), mode=MODE, or none.",
    ),
]


def read_cases(
    names: list[str] | None,
    *,
    size: str | None,
    choose: list[str] | None,
    mode: str | None,
    variant_name: str | None,
    **numbers: int | str | None,
) -> tuple[Case, ...]:
    """Return the named cases with the options applied; an option that is None changes nothing.

    Args:
        names: Names of cases; None for the default case of the device.
        size: Height and width of the images.
        choose: Choices of the network.
        mode: Parts joined by ``+``.
        variant_name: Name of a variant.
        numbers: Other fields of a case.

    Raises:
        SpecError: If a case does not exist, or cannot be run.
    """
    changes: dict[str, Any] = {name: value for name, value in numbers.items() if value is not None}
    if size:
        changes["size"] = read_size(size)
    if choose:
        read = read_overrides(choose)
        changes["choices"] = {name: _plain(value) for name, value in read.items()}
    if mode:
        changes["mode"] = read_mode(mode)
    if variant_name:
        changes["variant"] = variant(variant_name).name
    entries = map(case, dict.fromkeys(names)) if names else [case_for(str(changes.get("device", "cpu")))]
    if not names:
        changes.pop("device", None)
    return tuple(changed(entry, changes) for entry in entries)


def _plain(value: Any) -> str | float:  # noqa: ANN401 - a choice has one of many types
    """Return a choice's value as a number if it is one, else as text for a command line."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else written(value)


def read_plant(text: str) -> Plant:
    """Read the value of ``--plant``.

    Raises:
        SpecError: If it has none of the supported forms.

    >>> read_plant("wait=0.03")
    Plant(wait=0.03, mode=None)
    """
    name, equals, value = text.partition("=")
    if text == "none":
        return NO_PLANT
    if name == "mode" and equals:
        return Plant(mode=read_mode(value, "--plant"))
    try:
        wait = float(value) if name == "wait" else 0.0
    except ValueError:
        wait = 0.0
    if not (isfinite(wait) and wait > 0):
        raise SpecError("--plant", "must be wait=SHARE with a positive share, mode=MODE, or none", text)
    return Plant(wait=wait)

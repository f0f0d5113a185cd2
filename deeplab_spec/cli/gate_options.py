"""The options of ``gate`` that make a case of the user's own, and how they are read."""

from math import isfinite
from typing import Annotated, Any

import typer

from deeplab_spec.cli.options import complete_variant, read_size
from deeplab_spec.errors import SpecError
from deeplab_spec.gate.cases import CASES, CPU_FORWARD, DEVICES, PASSES, Case, case, case_for, changed
from deeplab_spec.gate.modes import MODES, read_mode
from deeplab_spec.gate.pairs import NOTHING, Plant
from deeplab_spec.spec.choices import read_overrides, written
from deeplab_spec.spec.variants import variant

_OF_CASE = "[that of the case]"


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
        help=f"The network, for a builder that takes a variant. {_OF_CASE}",
    ),
]
OutputStrideOption = Annotated[
    int | None,
    typer.Option("--output-stride", metavar="N", help=f"For a builder that takes an output_stride. {_OF_CASE}"),
]
SizeOption = Annotated[
    str | None, typer.Option("--size", metavar="HxW", help=f"Height and width of the images. {_OF_CASE}")
]
BatchOption = Annotated[int | None, typer.Option("--batch", metavar="N", help=f"Images of a run. {_OF_CASE}")]
DirectionOption = Annotated[
    str | None, typer.Option("--direction", metavar="NAME", help=f"{' or '.join(PASSES)}. {_OF_CASE}")
]
ModeOption = Annotated[
    str | None, typer.Option("--mode", metavar="MODE", help=f"Of {', '.join(MODES)}, joined by +. {_OF_CASE}")
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device", metavar="NAME", help=f"{' or '.join(DEVICES)}; without --case also chooses a case of it. {_OF_CASE}"
    ),
]
ThreadsOption = Annotated[int | None, typer.Option("--threads", metavar="N", help=f"Of each process. {_OF_CASE}")]
RoundsOption = Annotated[int | None, typer.Option("--rounds", metavar="N", help=f"Samples of each process. {_OF_CASE}")]
PlantOption = Annotated[
    str,
    typer.Option(
        "--plant",
        metavar="WHAT",
        help="Slow HEAD on purpose, to see the gate find it: wait=0.03 (a share of its own time), mode=MODE, or none.",
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
    """Return the cases that are named, with what the options decide otherwise.

    Args:
        names: Of cases; none for that of the device.
        size: Height and width.
        choose: Decisions of the network.
        mode: How it runs.
        variant_name: Of the network.
        numbers: Other fields of a case; None for that of the case.

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
    """Return a choice's value as a number, or else as a command line takes it."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else written(value)


def read_plant(text: str) -> Plant:
    """Read what is done to head on purpose.

    Raises:
        SpecError: If it is none of the forms.

    >>> read_plant("wait=0.03")
    Plant(wait=0.03, mode=None)
    """
    name, equals, value = text.partition("=")
    if text == "none":
        return NOTHING
    if name == "mode" and equals:
        return Plant(mode=read_mode(value, "--plant"))
    try:
        wait = float(value) if name == "wait" else 0.0
    except ValueError:
        wait = 0.0
    if not (isfinite(wait) and wait > 0):
        raise SpecError("--plant", "must be wait=SHARE with a positive share, mode=MODE, or none", text)
    return Plant(wait=wait)

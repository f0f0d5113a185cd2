"""``deeplab-spec bench``: times a network in every mode."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from deeplab_spec.bench.document import BenchDocument, bench_grid, bench_notes, bench_page
from deeplab_spec.bench.plan import Plan, plan
from deeplab_spec.bench.request import DEADLINE, WIDE_BATCHES, WIDE_SIZES, WIDE_STRIDES, BenchRequest, cases
from deeplab_spec.bench.service import bench as run
from deeplab_spec.capture.candidate.start import HERE
from deeplab_spec.cli import options, output
from deeplab_spec.cli.target_check import check_targets
from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.measure.parts import PARTS
from deeplab_spec.result import ExitCode
from deeplab_spec.spec.api import read_arguments
from deeplab_spec.spec.network import DEFAULT_CLASSES
from deeplab_spec.views.document import to_json, written_together
from deeplab_spec.views.progress import progress


def _complete_mode(incomplete: str) -> list[tuple[str, str]]:
    """Return the shell completions of a mode: a further part after the last ``+``."""
    before, plus, last = incomplete.rpartition("+")
    return [(f"{before}{plus}{part.name}", part.does) for part in PARTS if part.name.startswith(last)]


def bench(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[TARGET]",
            help="What builds the network: MODULE:CALLABLE, or reference:VARIANT; by default that of --variant.",
        ),
    ] = None,
    *,
    variant: Annotated[
        list[str] | None,
        options.variant_option(
            f"The published network; repeat for several: {options.SOME_VARIANTS}. [{options.DEFAULT_VARIANT}]"
        ),
    ] = None,
    choose: options.Choose = None,
    output_stride: Annotated[
        list[int] | None,
        typer.Option("--output-stride", metavar="N", help="Of the backbone's output; repeat for several. [16]"),
    ] = None,
    size: options.Size = None,
    batch: Annotated[
        list[int] | None, typer.Option("--batch", metavar="N", help="Images in a batch; repeat for several. [1]")
    ] = None,
    classes: options.Classes = DEFAULT_CLASSES,
    arg: options.Arguments = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(
            "--mode",
            metavar="MODE",
            autocompletion=_complete_mode,
            help="eager, or parts joined by +, as folded+channels_last; repeat for several. Parts: "
            f"{', '.join(part.name for part in PARTS)}. By default the device's default modes.",
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", metavar="DEVICE", help="cpu or cuda.")] = "cpu",
    runs: Annotated[int, typer.Option("--runs", metavar="N", help="Timed runs of each mode.")] = 7,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="N", help="Modes that are prepared side by side. [by the cores]")
    ] = 0,
    time_budget: Annotated[
        float | None,
        typer.Option("--time-budget", metavar="S", help="Seconds for everything; cases that do not fit are left out."),
    ] = None,
    deadline: Annotated[
        float, typer.Option("--deadline", metavar="S", help="Seconds that a mode may take to be prepared.")
    ] = DEADLINE,
    wide: Annotated[
        bool, typer.Option("--wide", help="The wide table: 513x513 and 1024x2048, batches 1, 8, 32, strides 8, 16.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Start the wide table without a question.")] = False,
    as_json: options.Json = False,
    file: options.Output = None,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save", metavar="DIR", help="Also write <device>.json and its page, <device>.md, after every case."
        ),
    ] = None,
    json_schema: options.Schema = False,
) -> None:
    """Time a network in every mode, after certifying each mode.

    Exit status: 0 everything that can run here was timed, 1 a mode is not equal or failed, or a case was left out.
    """
    if json_schema:
        output.schema(BenchDocument, file)
    sizes = WIDE_SIZES if wide else (options.read_size(size or options.DEFAULT_SIZE),)
    batches = WIDE_BATCHES if wide else batch or (1,)
    variants = dict.fromkeys(variant or (options.DEFAULT_VARIANT,))
    if target and len(variants) > 1:
        raise SpecError("--variant", "can be repeated only without a target", variant)
    check_targets(HERE, target)
    names = tuple(variants) if len(variants) > 1 else ("",)
    request = BenchRequest(
        target=target,
        variant=next(iter(variants)),
        overrides=tuple(choose or ()),
        arguments=read_arguments(arg),
        classes=classes,
        cases=cases(sizes, batches, WIDE_STRIDES if wide else output_stride or (16,), names),
        modes=tuple(mode or ()),
        device=device,
        runs=runs,
        jobs=jobs,
        time_budget=time_budget,
        deadline=deadline,
    )
    planned = plan(request)
    _announce(planned, ask=wide and not yes)

    def keep(document: BenchDocument) -> None:
        if save:
            with written_together(save) as folder:
                output.report(to_json(document), folder / f"{device}.json")
                output.report(bench_page(document, _line()), folder / f"{device}.md")

    if save:
        _make(save)
    with progress(lines=True) as report:
        document = run(planned, report, keep)
    keep(document)
    if as_json:
        output.report(to_json(document), file)
    else:
        _report(document, file)
    statuses = {entry.status for case in document.cases for entry in case.modes}
    raise typer.Exit(ExitCode.DIFFERENT if statuses & {"refused", "failed"} or document.left_out else ExitCode.DONE)


def _announce(planned: Plan, *, ask: bool) -> None:
    """Print what will be timed and how long it takes, and ask for a confirmation if needed."""
    output.summary(planned.statement())
    if not ask:
        return
    if not sys.stdin.isatty():
        raise SpecError("--wide", "takes long: confirm it with --yes", "no --yes")
    typer.confirm("Begin?", abort=True, err=True)


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetError(str(directory), f"cannot be created: {error.strerror}") from error


def _report(document: BenchDocument, file: Path | None) -> None:
    if file is not None:
        output.report(bench_page(document, _line()), file)
        return
    for case in document.cases:
        output.write(f"{case.network} on {document.device_name or document.device}, {case.title}\n")
        output.table(bench_grid(case))
        output.write(f"{bench_notes(case)}\n")
    for entry in document.left_out:
        output.write(f"left out: {entry.title}: {entry.reason}\n")


def _line() -> str:
    """Return the command line of this process."""
    return shlex.join(["deeplab-spec", *sys.argv[1:]])

"""``deeplab-spec gate``: decide whether head is slower than base, with known error probabilities."""

from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer

from deeplab_spec.cli import options, output
from deeplab_spec.errors import SpecError
from deeplab_spec.gate.cases import CASES, CPU_FORWARD, MODES, PASSES, Case, case, case_for, changed, read_mode
from deeplab_spec.gate.document import NO_PLANT, CalibrationDocument, GateDocument, GateVerdict, Plant
from deeplab_spec.gate.pairs import default_ahead
from deeplab_spec.gate.request import GateRequest, Settings
from deeplab_spec.gate.rule import Rule
from deeplab_spec.gate.sides import BUILD
from deeplab_spec.measure.parts import DEVICES
from deeplab_spec.result import ExitCode
from deeplab_spec.spec.api import read_arguments
from deeplab_spec.spec.choices import read_overrides, written
from deeplab_spec.spec.variants import NOTEBOOK, variant
from deeplab_spec.views.progress import progress

_OF_CASE = "[the case's]"


def _complete_case(incomplete: str) -> list[tuple[str, str]]:
    return [(entry.name, entry.reason) for entry in CASES if entry.name.startswith(incomplete)]


def read_cases(
    names: list[str] | None,
    *,
    size: str | None,
    choose: list[str] | None,
    mode: str | None,
    variant_name: str | None,
    **numbers: int | str | None,
) -> tuple[Case, ...]:
    """Return the named cases, or the default case of the device, with the options that are not None applied.

    Raises:
        SpecError: If a case does not exist, or cannot be run.
    """
    changes: dict[str, Any] = {name: value for name, value in numbers.items() if value is not None}
    if size:
        changes["size"] = options.read_size(size)
    if choose:
        read = read_overrides(choose, variant(variant_name or NOTEBOOK.name).family)
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


_EXIT = {
    GateVerdict.PASS: ExitCode.DONE,
    GateVerdict.FAIL: ExitCode.DIFFERENT,
    GateVerdict.INCONCLUSIVE: ExitCode.UNDECIDED,
}
_SIDE = "a directory, ref:NAME, a wheel, reference:VARIANT, or MODULE:CALLABLE"
_RULE = Rule()
_SETTINGS = Settings()


def gate(
    base: Annotated[
        str, typer.Argument(metavar="BASE", help=f"What head is compared with: {_SIDE}.", show_default=False)
    ] = "",
    head: Annotated[
        str, typer.Argument(metavar="HEAD", help="What must not be slower, in the same forms.", show_default=False)
    ] = "",
    *,
    case_name: Annotated[
        list[str] | None,
        typer.Option(
            "--case",
            metavar="NAME",
            autocompletion=_complete_case,
            help=f"What is timed; repeat for several: {', '.join(entry.name for entry in CASES)}. [{CPU_FORWARD.name}]",
        ),
    ] = None,
    variant: Annotated[
        str | None, options.variant_option(f"The network, for a builder with this argument. {_OF_CASE}")
    ] = None,
    choose: options.Choose = None,
    output_stride: Annotated[
        int | None,
        typer.Option(
            "--output-stride", metavar="N", help=f"The output stride, for a builder with this argument. {_OF_CASE}"
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", metavar="HxW", help=f"Height and width of the images. {_OF_CASE}")
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", metavar="N", help=f"Images per run. {_OF_CASE}")] = None,
    direction: Annotated[
        str | None, typer.Option("--direction", metavar="NAME", help=f"{' or '.join(PASSES)}. {_OF_CASE}")
    ] = None,
    mode: Annotated[
        str | None, typer.Option("--mode", metavar="MODE", help=f"Parts joined by +: {', '.join(MODES)}. {_OF_CASE}")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="NAME",
            help=f"{' or '.join(DEVICES)}; without --case it also chooses the case. {_OF_CASE}",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", help=f"Threads of each process. {_OF_CASE}")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option("--rounds", metavar="N", help=f"Samples of each process. {_OF_CASE}")
    ] = None,
    target: Annotated[
        str, typer.Option("--target", metavar="MODULE:CALLABLE", help="What is built from a directory, ref or wheel.")
    ] = BUILD,
    arg: options.Arguments = None,
    margin: Annotated[
        float, typer.Option("--margin", metavar="F", help="The slowdown that must be detected: 0.1 is ten percent.")
    ] = _RULE.margin,
    count_margin: Annotated[
        float, typer.Option("--count-margin", metavar="F", help="The increase of an exact count that fails.")
    ] = _SETTINGS.count_margin,
    max_pairs: Annotated[
        int | None,
        typer.Option(
            "--max-pairs", metavar="N", help=f"The largest number of pairs for each case. [{_RULE.max_pairs}]"
        ),
    ] = None,
    pairs: Annotated[
        int | None,
        typer.Option(
            "--pairs", metavar="N", help="Measure exactly N pairs for each case, then decide; N more confirm a FAIL."
        ),
    ] = None,
    ahead: Annotated[
        int | None,
        typer.Option(
            "--ahead",
            metavar="N",
            help="Pairs that are started together, if memory allows. [6 on a GPU; 1 to 6 on a CPU, by its cores]",
        ),
    ] = None,
    plant: Annotated[
        str,
        typer.Option(
            "--plant",
            metavar="WHAT",
            help="Slow HEAD down to test the gate: wait=0.03 (a share of its own time), mode=MODE, or none.",
        ),
    ] = "none",
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="S", help="Seconds that a process may take for one answer.")
    ] = _SETTINGS.timeout,
    allow_different: Annotated[
        bool, typer.Option("--allow-different", help="Time two different networks, too.")
    ] = False,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="DIR", help="Store the times as pytest-benchmark does, under DIR.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--summary", metavar="FILE", help="Write a Markdown summary, too.")
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option("--calibrate", metavar="DIR", help="Measure the gate's own error rates on BASE instead."),
    ] = None,
    recordings: Annotated[
        int, typer.Option("--recordings", metavar="N", help="Pairs that DIR holds after --calibrate.")
    ] = 216,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of --calibrate's resampling.")] = 0,
    as_json: options.Json = False,
    file: options.Output = None,
    json_schema: options.Schema = False,
) -> None:
    """Decide whether HEAD is slower than BASE, by time and by counts.

    A case is what is timed; options change it. Its variant, choices and output stride are passed to a builder that
    has such arguments. The report shows the call that built each side.

    A pair is two fresh processes that are sampled in turn. Time in which another process had the core does not count.
    A FAIL needs a second set of fresh processes that confirms it. It does not exclude an effect of where code and data
    lie in memory, if that is the same in every process of a side. The verdict is INCONCLUSIVE if the clocks differ,
    change or are slowed in more than a third of the pairs.

    Exit status: 0 PASS, 1 FAIL, 3 a side cannot be run or is a different network, 4 INCONCLUSIVE.
    """
    if json_schema:
        output.schema(CalibrationDocument if calibrate else GateDocument, file)
    if not base or bool(head) == bool(calibrate):
        raise typer.BadParameter("name BASE and HEAD; with --calibrate, BASE alone", param_hint="BASE HEAD")
    cases = read_cases(
        case_name,
        size=size,
        choose=choose,
        mode=mode,
        variant_name=variant,
        output_stride=output_stride,
        batch=batch,
        direction=direction,
        device=device,
        threads=threads,
        rounds=rounds,
    )
    if pairs is not None and max_pairs is not None:
        raise typer.BadParameter("--pairs and --max-pairs exclude each other", param_hint="--pairs")
    planted = read_plant(plant)
    if calibrate and planted != NO_PLANT:
        raise typer.BadParameter("--calibrate plants its own slowdowns", param_hint="--plant")
    most = pairs if pairs is not None else max_pairs if max_pairs is not None else _RULE.max_pairs
    rule = Rule(margin=margin, max_pairs=most, fixed=pairs is not None, cases=len(cases))
    request = GateRequest(
        base=base,
        head=head or base,
        cases=cases,
        target=target,
        arguments=read_arguments(arg),
        settings=Settings(
            rule=rule,
            count_margin=count_margin,
            timeout=timeout,
            allow_different=allow_different,
            plant=planted,
            ahead=ahead,
        ),
    )
    output.summary("\n".join(_plan(entry, request.settings) for entry in cases))
    if calibrate:
        _calibrate(calibrate, request, recordings, seed)
        return
    from deeplab_spec.gate import text as texts
    from deeplab_spec.gate.service import gate as run
    from deeplab_spec.gate.storage import store

    with progress() as report_progress:
        document = run(request, report_progress, output.summary)
    if save:
        store(document, save)
    if page:
        output.report(texts.page(document), page)
    output.document(document, texts.text(document), texts.headline(document), file, as_json=as_json)
    raise typer.Exit(_EXIT[document.verdict])


def _plan(entry: Case, settings: Settings) -> str:
    threads = "1 thread" if entry.threads == 1 else f"{entry.threads} threads"
    rule = settings.rule
    pairs = f"{rule.max_pairs}" if rule.fixed else f"{rule.looks[0]} to {rule.max_pairs}"
    together = settings.ahead or default_ahead(entry)
    ahead = f", {together} pairs started together" if together > 1 else ""
    return f"{entry.name}: {entry.title}; {pairs} pairs of processes, {threads} and {entry.rounds} rounds each{ahead}"


def _calibrate(folder: Path, request: GateRequest, recordings: int, seed: int) -> None:
    from deeplab_spec.gate.calibrate import calibrate
    from deeplab_spec.gate.text import calibration_page, curve, headline_of_rates
    from deeplab_spec.views.document import to_json, written_together

    with progress() as report_progress:
        device, document = calibrate(folder, request, recordings, seed, report_progress)
    with written_together(folder) as new:
        output.report(to_json(document), new / f"{device}.json")
        output.report(curve(document), new / f"{device}.svg")
        output.report(calibration_page(document, f"{device}.svg"), new / f"{device}.md")
    output.report(headline_of_rates(document))

"""Judges a candidate: observes it at every output stride, decides every clause, and writes the certificate."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from torch import nn

from deeplab_spec.capture.candidate.start import HERE, TIMEOUT, ProcessSettings
from deeplab_spec.capture.target import is_file
from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.execute.torch_settings import float32_products
from deeplab_spec.judge.build import candidate, reference_reader
from deeplab_spec.judge.certificate import Certificate, head_verdict
from deeplab_spec.judge.decisions import conclude, decide_clause
from deeplab_spec.judge.observe import AtStride, Builder, ReferenceReader, Stages, head_request, observe
from deeplab_spec.judge.precision.run import device_of
from deeplab_spec.judge.request import DTYPES, Request, request_from
from deeplab_spec.judge.waivers import Entry, apply_waivers, waivers_from
from deeplab_spec.spec.api import Override, written_overrides
from deeplab_spec.spec.clauses import Level
from deeplab_spec.views.document import digest_of_file
from deeplab_spec.views.progress import Progress, silent


def judge(
    request: Request, build: Builder, progress: Progress, references: ReferenceReader | None = None
) -> Certificate:
    """Judge a candidate in this process; errors of building it are not caught.

    Without ``references``, which reads the other network for an output stride, it is judged against the specification.

    Raises:
        TargetError: If the requested device is not available.
    """
    started = time.monotonic()
    device_of(request.device)
    stages = Stages(progress, len(request.strides))
    with float32_products(tf32=False):
        strides = [observe(request, output_stride, build, references, stages) for output_stride in request.strides]
    stages.done()
    certificate = _concluded(request, strides, started)
    heads, of_head = [stride.head for stride in strides if stride.head], head_request(request)
    if of_head is None or len(heads) < len(strides):
        return certificate
    return certificate.model_copy(update={"head": head_verdict(_concluded(of_head, heads, started))})


def _concluded(request: Request, strides: Sequence[AtStride], started: float) -> Certificate:
    decided = [decide_clause(clause, strides) for clause in request.clauses]
    return conclude(request, strides, decided, time.monotonic() - started)


def certify(
    target: str | nn.Module | Callable[..., nn.Module],
    variant: str | None = None,
    *,
    against: str | None = None,
    choices: Mapping[str, Override] | None = None,
    output_strides: Sequence[int] = (),
    num_classes: int | None = None,
    part: str | None = None,
    arguments: Mapping[str, object] | None = None,
    levels: Sequence[str] = tuple(Level),
    dtypes: Sequence[str] = DTYPES,
    device: str = "cpu",
    seed: int = 0,
    waivers: str | Path | Sequence[Entry] | None = None,
    accept_waivers: bool = False,
    today: date | None = None,
    progress: Progress = silent,
    python: str | None = None,
    search: Sequence[str | Path] = (),
    timeout: float = TIMEOUT,
    memory: int = 0,
) -> Certificate:
    """Decide every clause of the specification for one implementation.

    Args:
        target: ``module:callable`` or the path of a file, which run in a process of their own;
            ``reference:VARIANT``; or a module or a callable that builds one, which run in this process, so that
            the certificate holds for honest code only. A module is copied, and judged at one output stride.
        variant: The published network to judge it against; the default for a reference is its own variant.
        against: Another target to judge it against instead, as ``target``, or a file written by ``lock``.
        choices: Choices that differ from the variant's.
        output_strides: The output strides to build it for; by default 16, or a file's own.
        num_classes: Channels of the logits; by default 21, or a file's own.
        part: ``backbone``, ``aspp`` or ``decoder``, if it implements only that.
        arguments: Keyword arguments of the callable; text may contain ``{output_stride}`` and
            ``{classes}``.
        levels: The levels to decide.
        dtypes: The precisions of the numerics: ``float64``, ``float32``, ``tf32``; ``bfloat16`` and ``float16``, with
            weights and images cast; ``autocast-bfloat16`` and ``autocast-float16``, with weights in float32 and
            automatic mixed precision.
        device: Where the target runs: ``cpu`` or ``cuda``.
        seed: Seed of weights and images, and of the random numbers drawn while the candidate is built.
        waivers: Findings that are accepted, each with a reason and an expiry: a TOML file, or its entries.
        accept_waivers: Whether a run with waivers counts as accepted.
        today: The day on which the expiry of waivers is checked; by default today, in UTC.
        progress: Called with the stage, the number of stages done, and their total.
        python: The Python interpreter of the environment that a named target runs in; by default this one.
        search: Folders in which the module of a named target is searched, after all others.
        timeout: Seconds that an answer of the candidate may take.
        memory: Bytes that the candidate's process may allocate; 0 for no limit.

    Returns:
        The certificate.

    Raises:
        SpecError: A ValueError; if the value of an argument is not allowed, or a waiver has expired or covers
            nothing.
        TargetError: If the target cannot be imported or built, or the device is not available.
    """
    findings_waived = waivers_from(waivers, today=today)
    name = target if isinstance(target, str) else getattr(target, "__qualname__", type(target).__qualname__)
    if variant is None and against is None and not isinstance(target, str):
        raise SpecError("variant", f"say which network {name} is", None)
    request = request_from(
        name,
        variant=variant,
        against=against,
        overrides=written_overrides(choices),
        arguments={key: str(value) for key, value in (arguments or {}).items()},
        part=part,
        output_strides=output_strides,
        classes=num_classes,
        levels=levels,
        dtypes=dtypes,
        device=device,
        seed=seed,
    )
    request = replace(request, existing=isinstance(target, nn.Module))
    if request.existing and len(request.strides) > 1:
        raise SpecError("output_strides", "a module is judged at one output stride", request.output_strides)
    process = ProcessSettings(python=python or "", search=tuple(map(str, search)), timeout=timeout, memory=memory)
    source = None if isinstance(target, str) else target
    certificate = run(request, progress, process, source)
    return apply_waivers(certificate, findings_waived, accepted=accept_waivers)


def run(
    request: Request,
    progress: Progress,
    process: ProcessSettings = HERE,
    source: nn.Module | Callable[..., object] | None = None,
) -> Certificate:
    """Judge the network that a request names; a candidate's code runs in a process of its own.

    The source is the module itself, or a callable that builds it; they run in this process.

    Raises:
        MissingExtraError: If torch is not installed.
        TargetError: If the target cannot be imported or built.
    """
    request, references = reference_reader(request, process)
    file = Path(request.target) if source is None and is_file(request.target) else None
    before = digest_of_file(file) if file and file.is_file() else None
    completed, build = candidate(request, process, source)
    certificate = judge(completed, build, progress, references)
    if file and before != digest_of_file(file):
        raise TargetError(request.target, "was changed while it was judged")
    return certificate.model_copy(update={"file": before})

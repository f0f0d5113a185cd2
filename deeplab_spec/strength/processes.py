"""Judges mutants and rewrites, in several processes.

A rewrite is equal to a published network and must be accepted.

As a program, this module is one of the processes: it reads units of work from stdin and answers with their entries.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch
from pydantic import TypeAdapter
from torch import nn

from deeplab_spec.capture.candidate.start import ProcessSettings
from deeplab_spec.child_process import ChildProcess, answers, python_module, wait
from deeplab_spec.errors import ChildError, DeepLabSpecError, TargetError, one_line
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.judge.judge import certify, run
from deeplab_spec.judge.request import request_from
from deeplab_spec.mutate.rewrites.catalogue import Rewrite, rewrite
from deeplab_spec.pieces.plan import Done, Piece, Took, timed
from deeplab_spec.spec.api import Override, written_overrides
from deeplab_spec.spec.clauses import Level
from deeplab_spec.strength.document import JudgedMutant, JudgedRewrite, key_of
from deeplab_spec.strength.levels import Subject
from deeplab_spec.strength.modules import CLASSES, build_rewrite, original_of, small
from deeplab_spec.strength.running import PACKAGE
from deeplab_spec.views.document import Json, temporary_folder
from deeplab_spec.views.progress import silent

NEVER_APPLICABLE: Final = frozenset({"INITIALISATION", "BATCH-OF-ONE"})
"""Clauses that may be not applicable to any rewrite: it comes with weights, and the network may normalise a single
pixel."""


def judged(name: str, levels: Iterable[Level] = tuple(Level), *, isolated: bool = False) -> JudgedRewrite:
    """Judge one rewrite; an error is a reason to refuse it.

    Training is left out where the rewrite is equal in evaluation only. A file always runs in a candidate's process.

    Raises:
        SpecError: If there is no such rewrite.
    """
    one = rewrite(name)
    choices = small(one.variant)
    levels = [level for level in levels if level is not Level.TRAINING or not one.method.evaluation_only]
    with temporary_folder() as directory:
        try:
            rewritten = one.method.apply(original_of(one, directory, choices))
            if isolated and not isinstance(rewritten, Path):
                certificate = _judge_isolated(one, choices, levels)
            else:
                certificate = judge(rewritten, one, choices, levels)
        except (DeepLabSpecError, RuntimeError, TypeError, ValueError) as error:
            return JudgedRewrite(name=name, kind=one.kind, refused=one_line(error))
    errors = certificate.conditioning
    return JudgedRewrite(
        name=name,
        kind=one.kind,
        refused=_reason(certificate, one.method.not_applicable),
        float32_ratio=max((each.float32_ratio for each in errors if each.float32_ratio is not None), default=None),
        float64_error=max((each.float64_error for each in errors if each.float64_error is not None), default=None),
    )


def judge(
    rewritten: nn.Module | Path, one: Rewrite, choices: Mapping[str, Override], levels: Iterable[Level] = tuple(Level)
) -> Certificate:
    """Judge a rewritten network against the published network that it equals."""
    return certify(
        str(rewritten) if isinstance(rewritten, Path) else rewritten,
        one.variant,
        choices=choices,
        output_strides=() if isinstance(rewritten, Path) else (one.output_stride,),
        num_classes=CLASSES,
        levels=tuple(levels),
    )


def _judge_isolated(one: Rewrite, choices: Mapping[str, Override], levels: Iterable[Level]) -> Certificate:
    """Judge a rewrite that a candidate's process builds; it comes with weights, as an object that is handed over."""
    request = request_from(
        f"{build_rewrite.__module__}:{build_rewrite.__name__}",
        variant=one.variant,
        overrides=written_overrides(choices),
        arguments={"name": one.id},
        output_strides=(one.output_stride,),
        classes=CLASSES,
        levels=levels,
    )
    return run(replace(request, existing=True), silent, ProcessSettings(search=(PACKAGE,)))


def _reason(certificate: Certificate, not_applicable: frozenset[str]) -> str:
    """Return the first clause that must be passed and was not, with the reason; empty if there is none."""
    for clause in certificate.clauses:
        if clause.verdict is Verdict.NOT_APPLICABLE and clause.id in not_applicable | NEVER_APPLICABLE:
            continue
        if clause.verdict is not Verdict.PASSED:
            finding = next((f"{f.path} {f.attribute}: {f.actual}, must be {f.expected}" for f in clause.findings), "")
            return f"{clause.id} is {clause.verdict}: {clause.reason or finding}"
    return "" if certificate.verdict is RunVerdict.CONFORMS else f"it {certificate.verdict}"


MUTANTS_PER_UNIT: Final = 16

Key = tuple[str, int, float, int, tuple[str, ...], bool]
"""Variant, output stride, width, seed, choices that differ from the variant's, and whether mutants run isolated."""


@lru_cache(maxsize=1)
def subject_of(
    variant: str,
    output_stride: int,
    width: float,
    seed: int,
    overrides: tuple[str, ...],
    isolated: bool,  # noqa: FBT001 - see Key
) -> Subject:
    """Return a subject; only the last one is kept, because its values are large."""
    return Subject(
        variant=variant, output_stride=output_stride, width=width, seed=seed, overrides=overrides, isolated=isolated
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MutantsUnit:
    """Mutants of one subject, judged in one process, each with whether it is judged below float32 too."""

    subject: Key
    names: tuple[tuple[str, bool], ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the entries."""
        return tuple(self._key(name) for name, _ in self.names)

    def run(self) -> list[JudgedMutant]:
        """Judge the mutants."""
        subject = subject_of(*self.subject)
        return [subject.judge(name, lower=lower) for name, lower in self.names]

    def _key(self, name: str) -> str:
        variant, output_stride, width, *_ = self.subject
        return key_of(f"{variant}@{output_stride}", width, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class RewriteUnit:
    """One rewrite, judged in one process; isolated, a candidate's process builds and runs it."""

    name: str
    isolated: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the entries."""
        return (f"rewrite {self.name}",)

    def run(self) -> list[JudgedRewrite]:
        """Judge the rewrite."""
        return [judged(self.name, isolated=self.isolated)]


Unit = MutantsUnit | RewriteUnit
Entry = JudgedMutant | JudgedRewrite

UNIT: Final[TypeAdapter[Unit]] = TypeAdapter(Unit)
ENTRIES: Final[TypeAdapter[list[Entry]]] = TypeAdapter(list[Entry])


def units_of(subject: Key, names: Sequence[str], lower_every: int | None) -> Iterable[MutantsUnit]:
    """Split the mutants of a subject into units; one in so many is judged in precisions below float32 too."""
    numbered = [(name, lower_every is not None and number % lower_every == 0) for number, name in enumerate(names)]
    for start in range(0, len(numbered), MUTANTS_PER_UNIT):
        yield MutantsUnit(subject=subject, names=tuple(numbered[start : start + MUTANTS_PER_UNIT]))


def judge_all(pieces: Sequence[Piece], processes: int) -> Iterator[Done]:
    """Run pieces in parallel processes, and yield each with its entries when it is done.

    Pieces of one subject follow each other.

    Raises:
        TargetError: If a process ends before its work is done.
    """
    if processes == 1:
        yield from _judged_here(pieces)
        return
    waiting = list(pieces)[::-1]
    with ExitStack() as stack:
        command = python_module("deeplab_spec.strength.processes")
        idle = [stack.enter_context(ChildProcess(command)) for _ in range(min(processes, len(pieces)))]
        busy: dict[ChildProcess, Piece] = {}
        while waiting or busy:
            while waiting and idle:
                busy[idle[-1]] = waiting.pop()
                idle[-1].send(json.dumps(busy[idle.pop()].work))
            wait(busy)
            for child in list(busy):
                try:
                    answer = child.poll()
                except ChildError as error:
                    raise TargetError("mutants", error.reason) from error
                if answer is not None:
                    idle.append(child)
                    yield busy.pop(child), answer["entries"], Took(*answer["took"])


def _judged_here(pieces: Sequence[Piece]) -> Iterator[Done]:
    """Run pieces in this process, with one thread as in the others."""
    threads = torch.get_num_threads()
    try:
        for piece in pieces:
            yield piece, *timed(run_unit, piece.work)
    finally:
        torch.set_num_threads(threads)


def run_unit(work: Json) -> object:
    """Run a unit with one thread; return its entries as JSON, in which infinite numbers are text."""
    torch.set_num_threads(1)
    return [json.loads(entry.model_dump_json()) for entry in UNIT.validate_python(work).run()]


def main() -> None:
    """Run the units on stdin one at a time, and answer each with its entries."""
    with answers() as send:
        for line in sys.stdin:
            entries, took = timed(run_unit, json.loads(line))
            send({"entries": entries, "took": took})


if __name__ == "__main__":
    main()

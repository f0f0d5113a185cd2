"""Judges mutants and rewrites in several processes, and resumes an interrupted run from its journal.

A rewrite is equal to a published network and must be accepted.

As a program, this module is one of the processes: it reads units of work from stdin and answers with their entries.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from deeplab_spec.child_process import ChildProcess, ProcessSettings, answers, python_module, wait
from deeplab_spec.errors import ChildError, DeepLabSpecError, TargetError, one_line
from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.judge.finding import RunVerdict, Verdict
from deeplab_spec.judge.judge import certify, run
from deeplab_spec.judge.request import request_from
from deeplab_spec.mutate.rewrites.catalogue import Rewrite, rewrite
from deeplab_spec.pieces.folder import cache_folder
from deeplab_spec.pieces.plan import Took, code_digest, timed
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
    rewritten: nn.Module | Path,
    one: Rewrite,
    choices: Mapping[str, Override],
    levels: Iterable[Level] = tuple(Level),
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
        variant=variant,
        output_stride=output_stride,
        width=width,
        seed=seed,
        overrides=overrides,
        isolated=isolated,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MutantsUnit:
    """Mutants of one subject, judged in one process.

    Attributes:
        subject: The subject.
        names: Names of the mutants, each with whether to judge it in precisions below float32 too.
    """

    subject: Key
    names: tuple[tuple[str, bool], ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the entries."""
        return tuple(self._key(name) for name, _ in self.names)

    def remaining(self, known: Container[str]) -> "MutantsUnit | None":
        """Return the unit without known entries; None if all are known."""
        names = tuple(entry for entry in self.names if self._key(entry[0]) not in known)
        return replace(self, names=names) if names else None

    def run(self) -> list[JudgedMutant]:
        """Judge the mutants."""
        subject = subject_of(*self.subject)
        return [subject.judge(name, lower=lower) for name, lower in self.names]

    def _key(self, name: str) -> str:
        variant, output_stride, width, *_ = self.subject
        return key_of(f"{variant}@{output_stride}", width, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class RewriteUnit:
    """One rewrite, judged in one process.

    Attributes:
        name: Id of the rewrite.
        isolated: Whether a candidate's process builds and runs it.
    """

    name: str
    isolated: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the entries."""
        return (f"rewrite {self.name}",)

    def remaining(self, known: Container[str]) -> "RewriteUnit | None":
        """Return the unit; None if its entry is known."""
        return None if self.keys[0] in known else self

    def run(self) -> list[JudgedRewrite]:
        """Judge the rewrite."""
        return [judged(self.name, isolated=self.isolated)]


Unit = MutantsUnit | RewriteUnit
Entry = JudgedMutant | JudgedRewrite

UNIT: Final[TypeAdapter[Unit]] = TypeAdapter(Unit)
ENTRY: Final[TypeAdapter[Entry]] = TypeAdapter(Entry)
ENTRIES: Final[TypeAdapter[list[Entry]]] = TypeAdapter(list[Entry])


def units_of(subject: Key, names: Sequence[str], lower_every: int | None) -> Iterable[MutantsUnit]:
    """Split the mutants of a subject into units; one in so many is judged in precisions below float32 too."""
    numbered = [(name, lower_every is not None and number % lower_every == 0) for number, name in enumerate(names)]
    for start in range(0, len(numbered), MUTANTS_PER_UNIT):
        yield MutantsUnit(subject=subject, names=tuple(numbered[start : start + MUTANTS_PER_UNIT]))


Judged = tuple[int, list[Entry], Took]
"""The place of a unit among others, its entries, and how long it took."""


def judge_all(units: Sequence[Unit], processes: int, journal: Path | None) -> Iterator[Judged]:
    """Judge the networks of all units, and yield each unit when it is done.

    Units of one subject follow each other. A journal has the entries of earlier runs, and gets the new ones.

    Raises:
        TargetError: If a process ends before its work is done.
    """
    known = {entry.key: entry for entry in _read(journal)}
    left = {place: rest for place, unit in enumerate(units) if (rest := unit.remaining(known)) is not None}
    yield from (
        (place, [known[key] for key in units[place].keys], Took(0.0, 0.0))
        for place in range(len(units))
        if place not in left
    )
    with _writer(journal) as write:
        for place, entries, took in _judged(left, processes):
            for entry in entries:
                known[entry.key] = entry
                write(entry.model_dump_json())
            yield place, [known[key] for key in units[place].keys], took


def _judged(units: Mapping[int, Unit], processes: int) -> Iterator[Judged]:
    """Run units side by side, and yield the entries of each when it is done."""
    if processes == 1:
        yield from _judged_here(units)
        return
    waiting = list(units.items())[::-1]
    with ExitStack() as stack:
        command = python_module("deeplab_spec.strength.processes")
        idle = [stack.enter_context(ChildProcess(command)) for _ in range(min(processes, len(units)))]
        busy: dict[ChildProcess, int] = {}
        while waiting or busy:
            while waiting and idle:
                busy[idle[-1]], unit = waiting.pop()
                idle.pop().send(UNIT.dump_json(unit).decode())
            wait(busy)
            for child in list(busy):
                try:
                    answer = child.poll()
                except ChildError as error:
                    raise TargetError("mutants", error.reason) from error
                if answer is not None:
                    idle.append(child)
                    yield busy.pop(child), ENTRIES.validate_python(answer["entries"]), Took(*answer["took"])


def _judged_here(units: Mapping[int, Unit]) -> Iterator[Judged]:
    """Run units in this process, with one thread as in the others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for place, unit in units.items():
            entries, took = timed(_run, unit)
            yield place, entries, took
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _writer(journal: Path | None) -> Iterator[Callable[[str], None]]:
    """Return what appends a line to a journal and flushes it; without a journal it does nothing."""
    if journal is None:
        yield lambda _line: None
        return
    with journal.open("a", encoding="utf-8") as file:
        yield lambda line: print(line, file=file, flush=True)


def _read(journal: Path | None) -> Iterator[Entry]:
    """Return the entries of a journal; its last line may be incomplete."""
    if journal is None or not journal.exists():
        return
    for line in journal.read_text(encoding="utf-8").splitlines():
        try:
            yield ENTRY.validate_json(line)
        except ValidationError:
            continue


def journal_for(settings: Sequence[object]) -> Path:
    """Return the path of a run's journal; it depends on the settings and on the code of the judge."""
    key = json.dumps([code_digest(), *map(str, settings)])
    return cache_folder() / f"mutants-{hashlib.sha256(key.encode()).hexdigest()[:16]}.jsonl"


def _run(unit: Unit) -> list[Entry]:
    return [*unit.run()]


def run_unit(work: Json) -> object:
    """Run a unit with one thread; return its entries as JSON."""
    torch.set_num_threads(1)
    return written(UNIT.validate_python(work).run())


def written(entries: Sequence[Entry]) -> object:
    """Return entries as JSON, in which infinite numbers are text."""
    return [json.loads(entry.model_dump_json()) for entry in entries]


def main() -> None:
    """Run the units on stdin one at a time, and answer each with its entries."""
    with answers() as send:
        for line in sys.stdin:
            entries, took = timed(run_unit, json.loads(line))
            send({"entries": entries, "took": took})


if __name__ == "__main__":
    main()

"""Measures how strong the judge is: judges thousands of mutants and sums up the verdicts of each level."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from deeplab_spec.errors import SpecError
from deeplab_spec.judge.numerics.end_to_end import CAST, END_TO_END_LIMIT
from deeplab_spec.mutate.mutant import Shows
from deeplab_spec.mutate.rewrites.catalogue import rewrites
from deeplab_spec.precision import FLOAT32, FLOAT64, RATIO_LIMIT
from deeplab_spec.spec.clauses import CLAUSES
from deeplab_spec.spec.network import check_output_stride
from deeplab_spec.spec.variants import variant
from deeplab_spec.strength.document import (
    AtDtype,
    AtLevel,
    Equal,
    JudgedMutant,
    JudgedRewrite,
    Localised,
    Margins,
    MutantsDocument,
    Rewrites,
    Sampled,
    Survivor,
)
from deeplab_spec.strength.processes import Entry, RewriteUnit, Unit, judge_all, subject_of, units_of
from deeplab_spec.views.progress import Progress

MAIN: Final = ("notebook", "tf-release")
STRIDES: Final = (8, 16)
WIDTH: Final = 1 / 32
FULL: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MutantsRequest:
    """The mutants and rewrites to judge.

    Attributes:
        variants: The published networks whose mutants are judged.
        output_strides: Their output strides; a mutant that shows in training only is judged at the last one, because
            its node is the same at all.
        sample: Number of mutants in a random sample of each network; None for all.
        full_width: Number of mutants in a random sample at full width, over all networks.
        lower_every: One mutant in so many is judged in precisions below float32 too.
        processes: Number of processes that work at the same time.
        journal: File from which an interrupted run resumes; None for no file.
        seed: Seed of images, weights and samples.
        overrides: Choices that differ from the variants', as ``NAME=VALUE``.
        rewrites: Whether rewrites are judged too.

    Raises:
        SpecError: If a variant is unknown, has no such output stride, or a number is too small.
    """

    variants: tuple[str, ...] = MAIN
    output_strides: tuple[int, ...] = STRIDES
    sample: int | None = None
    full_width: int = 0
    lower_every: int = 10
    processes: int = 1
    journal: Path | None = None
    seed: int = 0
    overrides: tuple[str, ...] = ()
    rewrites: bool = True

    def __post_init__(self) -> None:
        for name in self.variants:
            for output_stride in self.output_strides:
                check_output_stride(variant(name), output_stride)
        for label, value, least in (
            ("--sample", self.sample, 1),
            ("--full-width", self.full_width, 0),
            ("--lower-every", self.lower_every, 1),
            ("--processes", self.processes, 1),
        ):
            if value is not None and value < least:
                raise SpecError(label, f"must be {least} or more", value)

    @property
    def subjects(self) -> tuple[tuple[str, int], ...]:
        """Variant and output stride of every network."""
        return tuple((name, output_stride) for name in self.variants for output_stride in self.output_strides)


def mutants(request: MutantsRequest, progress: Progress) -> MutantsDocument:
    """Judge the mutants and rewrites of a request.

    Args:
        request: The request.
        progress: Called with the progress of the work.
    """
    units: list[Unit] = []
    unfit = 0
    for number, (name, output_stride) in enumerate(request.subjects):
        progress(f"making the mutants of {name}@{output_stride}", number, len(request.subjects))
        catalogue = subject_of(name, output_stride, WIDTH, request.seed, request.overrides).mutants
        unfit += len(catalogue.unfit)
        last = output_stride == request.output_strides[-1]
        names = [mutant.name for mutant in catalogue.mutants if last or mutant.shows is not Shows.TRAINING]
        generator = random.Random(f"{request.seed} {name} {output_stride}")  # noqa: S311 - a sample
        chosen = names if request.sample is None else sorted(generator.sample(names, min(request.sample, len(names))))
        units += units_of((name, output_stride, WIDTH, request.seed, request.overrides), chosen, request.lower_every)
        wide = [mutant.name for mutant in catalogue.mutants if mutant.shows is Shows.EVALUATION]
        share = min(-(-request.full_width // len(request.subjects)), len(wide))
        full = (name, output_stride, FULL, request.seed, request.overrides)
        units += units_of(full, generator.sample(wide, share), None)
    units += [RewriteUnit(name=name) for name in _rewrites(request)]
    entries = judge_all(units, request.processes, request.journal, progress)
    return strength(entries, request, unfit)


def _rewrites(request: MutantsRequest) -> list[str]:
    """Return the ids of a request's rewrites; with a sample, a sample of that size."""
    if not request.rewrites:
        return []
    names = [one.id for one in rewrites() if (one.variant, one.output_stride) in request.subjects]
    if request.sample is None:
        return names
    return sorted(random.Random(request.seed).sample(names, min(request.sample, len(names))))  # noqa: S311 - a sample


def strength(entries: Sequence[Entry], request: MutantsRequest, unfit: int) -> MutantsDocument:
    """Sum up the verdicts on every network.

    Args:
        entries: The verdicts.
        request: The request.
        unfit: Number of faulty graphs that cannot run.
    """
    found = [entry for entry in entries if isinstance(entry, JudgedMutant)]
    faulty = [entry for entry in found if entry.shows is not Shows.NOWHERE]
    survivors = [survivor for entry in faulty for survivor in _survivors(entry)]
    located = [entry for entry in faulty if entry.exact is not None]
    return MutantsDocument(
        variants=request.variants,
        output_strides=request.output_strides,
        width=WIDTH,
        sample=request.sample,
        seed=request.seed,
        versions={"torch": torch.__version__},
        total=len(faulty),
        killed=sum(not _survivors(entry) for entry in faulty),
        survivors=tuple(survivors),
        equal=_equal(found),
        unfit=unfit,
        by_clause=_by_clause(faulty),
        first=_first(faulty),
        by_level=_by_level(faulty),
        by_dtype=_by_dtype(faulty),
        rewrites=_accepted([entry for entry in entries if isinstance(entry, JudgedRewrite)]),
        localised=Localised(
            total=len(located),
            exact=sum(bool(entry.exact) for entry in located),
            elsewhere=tuple(f"{entry.name} ({entry.subject}): {entry.first}" for entry in located if not entry.exact),
        ),
        full_width=_sampled(faulty),
        margins=_margins(faulty),
    )


def _must(entry: JudgedMutant) -> tuple[str, ...]:
    """Return the levels each of which must refuse a mutant."""
    return ("structure", "numerics") if entry.shows is Shows.EVALUATION else ("training",)


def _killed(entry: JudgedMutant, level: str) -> bool:
    return bool(getattr(entry, level))


def _survivors(entry: JudgedMutant) -> list[Survivor]:
    return [
        Survivor(name=entry.name, subject=entry.subject, width=entry.width, level=level, error=entry.error)
        for level in _must(entry)
        if not _killed(entry, level)
    ]


def _equal(found: Iterable[JudgedMutant]) -> tuple[Equal, ...]:
    """Group the mutants that are proven equal, and name those that the structure refuses nevertheless."""
    groups: dict[tuple[str, str], list[JudgedMutant]] = {}
    for entry in found:
        if entry.shows is Shows.NOWHERE:
            groups.setdefault((entry.kind, entry.proof), []).append(entry)
    return tuple(
        Equal(
            kind=kind,
            proof=proof,
            total=len(entries),
            refused=tuple(f"{entry.name} ({entry.subject})" for entry in entries if entry.structure),
        )
        for (kind, proof), entries in groups.items()
    )


def _by_clause(faulty: Iterable[JudgedMutant]) -> dict[str, dict[str, int]]:
    """Count, for every clause, the mutants of each kind that it refuses."""
    counts = {clause.id: Counter[str]() for clause in CLAUSES}
    for entry in faulty:
        for clause in (*entry.structure, *entry.numerics, *(entry.training or ())):
            counts[clause][entry.kind] += 1
    return {clause: dict(sorted(found.items())) for clause, found in counts.items() if found}


def _first(faulty: Iterable[JudgedMutant]) -> dict[str, str]:
    """Name, for every clause, a mutant that no earlier clause of its level refuses."""
    found: dict[str, str] = {}
    for entry in faulty:
        for refusing in (entry.structure, entry.numerics, entry.training or ()):
            if refusing:
                found.setdefault(refusing[0], f"{entry.name} ({entry.subject})")
    return {clause.id: found[clause.id] for clause in CLAUSES if clause.id in found}


def _by_level(faulty: Sequence[JudgedMutant]) -> dict[str, AtLevel]:
    return {
        level: AtLevel(shown=len(shown), killed=sum(_killed(entry, level) for entry in shown))
        for level in ("structure", "numerics", "training")
        if (shown := [entry for entry in faulty if level in _must(entry)])
    }


def _by_dtype(faulty: Sequence[JudgedMutant]) -> dict[str, AtDtype]:
    ran = [entry for entry in faulty if entry.error is not None]
    found = {
        FLOAT64.name: AtDtype(tried=len(ran), killed=sum(bool(entry.numerics) for entry in ran), limit=END_TO_END_LIMIT)
    }
    for dtype in CAST:
        tried = [entry.lower[dtype] for entry in ran if dtype in entry.lower]
        if tried:
            found[dtype] = AtDtype(tried=len(tried), killed=sum(entry.killed for entry in tried), limit=RATIO_LIMIT)
    return found


def _accepted(found: Sequence[JudgedRewrite]) -> Rewrites | None:
    if not found:
        return None
    accepted = [entry for entry in found if not entry.refused]
    return Rewrites(
        total=len(found),
        accepted=len(accepted),
        rejected=tuple(f"{entry.name}: {entry.refused}" for entry in found if entry.refused),
        kinds=dict(Counter(entry.kind for entry in found)),
        float32_ratio=max((entry.float32_ratio or 0.0 for entry in accepted), default=0.0),
        float64_error=max((entry.float64_error or 0.0 for entry in accepted), default=0.0),
    )


def _sampled(faulty: Iterable[JudgedMutant]) -> Sampled | None:
    wide = [entry for entry in faulty if entry.width == FULL]
    if not wide:
        return None
    return Sampled(total=len(wide), killed=sum(not _survivors(entry) for entry in wide))


def _margins(faulty: Iterable[JudgedMutant]) -> Margins | None:
    ran = [entry for entry in faulty if entry.error is not None and FLOAT32.name in entry.lower]
    if not ran:
        return None
    weakest = min(ran, key=lambda entry: entry.error or 0.0)
    closest = min(ran, key=lambda entry: entry.lower[FLOAT32.name].ratio)
    return Margins(
        float64=weakest.error or 0.0,
        float64_mutant=f"{weakest.name} ({weakest.subject})",
        float64_limit=END_TO_END_LIMIT,
        float32=closest.lower[FLOAT32.name].ratio,
        float32_mutant=f"{closest.name} ({closest.subject})",
        float32_limit=RATIO_LIMIT,
    )

"""Measures how strong the judge is: judges thousands of mutants and sums up the verdicts of each level."""

import random
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from pydantic import TypeAdapter

from deeplab_spec.errors import SpecError
from deeplab_spec.judge.numerics.end_to_end import CAST, END_TO_END_LIMIT
from deeplab_spec.mutate.mutant import Mutant, Shows
from deeplab_spec.mutate.rewrites.catalogue import rewrites
from deeplab_spec.pieces.folder import run
from deeplab_spec.pieces.plan import WHOLE, Execute, Piece, Plan, code_digest
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
from deeplab_spec.strength.processes import ENTRIES, UNIT, Entry, RewriteUnit, Unit, judge_all, subject_of, units_of
from deeplab_spec.views.document import Json
from deeplab_spec.views.progress import Progress

MAIN: Final = ("notebook", "tf-release")
STRIDES: Final = (8, 16)
WIDTH: Final = 1 / 32
FULL: Final = 1.0

_SECONDS: Final = {Shows.EVALUATION: 0.2, Shows.NOWHERE: 0.1, Shows.TRAINING: 1.8}
"""How long a mutant of each kind takes on one core; only the ratios matter, which make shards alike."""
_INITIAL: Final = 0.3
_WIDE: Final = 20
_REWRITE: Final = 6.0


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
        seed: Seed of images, weights and samples.
        overrides: Choices that differ from the variants', as ``NAME=VALUE``.
        rewrites: Whether rewrites are judged too.
        isolated: Whether a candidate's process builds and runs every network, as ``certify`` does.

    Raises:
        SpecError: If a variant is unknown, has no such output stride, or a number is too small.
    """

    variants: tuple[str, ...] = MAIN
    output_strides: tuple[int, ...] = STRIDES
    sample: int | None = None
    full_width: int = 0
    lower_every: int = 10
    processes: int = 1
    seed: int = 0
    overrides: tuple[str, ...] = ()
    rewrites: bool = True
    isolated: bool = False

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


OPTIONS: Final[TypeAdapter[MutantsRequest]] = TypeAdapter(MutantsRequest)

_FLAGS: Final = {
    "variants": "--variant",
    "output_strides": "--output-stride",
    "sample": "--sample",
    "full_width": "--full-width",
    "lower_every": "--lower-every",
    "seed": "--seed",
    "isolated": "--isolated",
}


def mutants(request: MutantsRequest, progress: Progress) -> MutantsDocument:
    """Judge the mutants and rewrites of a request."""
    plan = planned(request, progress)
    return summed(plan, run(plan, WHOLE, None, local(request), progress))


def planned(request: MutantsRequest, progress: Progress, known: Plan | None = None) -> Plan:
    """Return the run of a request: its pieces are units of mutants, and rewrites.

    A known run is returned if it is that of the request; no mutants are made then.
    """
    options = OPTIONS.dump_python(request, mode="json", exclude={"processes"})
    if known is not None and (known.command, known.options, known.code) == ("mutants", options, code_digest()):
        return known
    settings = request.seed, request.overrides, request.isolated
    pieces: list[Piece] = []
    unfit = 0
    for number, (name, output_stride) in enumerate(request.subjects):
        progress(f"making the mutants of {name}@{output_stride}", number, len(request.subjects))
        catalogue = subject_of(name, output_stride, WIDTH, *settings).mutants
        unfit += len(catalogue.unfit)
        last = output_stride == request.output_strides[-1]
        names = [mutant.name for mutant in catalogue.mutants if last or mutant.shows is not Shows.TRAINING]
        generator = random.Random(f"{request.seed} {name} {output_stride}")  # noqa: S311 - a sample
        chosen = names if request.sample is None else sorted(generator.sample(names, min(request.sample, len(names))))
        wide = [mutant.name for mutant in catalogue.mutants if mutant.shows is Shows.EVALUATION]
        share = min(-(-request.full_width // len(request.subjects)), len(wide))
        seconds = {mutant.name: _seconds(mutant) for mutant in catalogue.mutants}
        for width, sample, every in ((WIDTH, chosen, request.lower_every), (FULL, generator.sample(wide, share), None)):
            subject = (name, output_stride, width, *settings)
            for place, unit in enumerate(units_of(subject, sample, every)):
                cost = sum(seconds[each] for each, _ in unit.names) * (1 if width == WIDTH else _WIDE)
                pieces.append(_piece(f"{name}@{output_stride} {width:g} {place}", cost, unit))
    units = [RewriteUnit(name=name, isolated=request.isolated) for name in _rewrites(request)]
    pieces += [_piece(f"rewrite {unit.name}", _REWRITE, unit) for unit in units]
    return Plan(
        command="mutants",
        options=options,
        context={"unfit": unfit, "versions": {"torch": torch.__version__}},
        pieces=tuple(pieces),
    )


def command_of(plan: Plan) -> str:
    """Return the command line of a run in one piece; options with their usual values are left out."""
    usual = OPTIONS.dump_python(MutantsRequest(), mode="json")
    words = ["deeplab-spec", plan.command]
    for name, flag in _FLAGS.items():
        value = plan.options[name]
        if value != usual[name]:
            each = value if isinstance(value, list) else [value]
            words += [flag] if value is True else [word for one in each for word in (flag, str(one))]
    return shlex.join(words)


def _piece(name: str, cost: float, unit: Unit) -> Piece:
    return Piece(id=name, cost=round(cost, 2), work=UNIT.dump_python(unit, mode="json"))


def _seconds(mutant: Mutant) -> float:
    return _INITIAL if mutant.has_initial_fault else _SECONDS[mutant.shows]


def local(request: MutantsRequest) -> Execute:
    """Return what runs the pieces of a request on this machine."""
    return partial(judge_all, processes=request.processes)


def summed(plan: Plan, results: Mapping[str, Any]) -> MutantsDocument:
    """Sum up the results of a run.

    Raises:
        SpecError: If a result is not that of its piece.
    """
    entries: list[Entry] = []
    for piece in plan.pieces:
        found = ENTRIES.validate_python(results[piece.id])
        if tuple(entry.key for entry in found) != UNIT.validate_python(piece.work).keys:
            raise SpecError(piece.id, "must have the results of its own networks", f"{len(found)} results")
        entries += found
    return strength(entries, OPTIONS.validate_python(plan.options), plan.context)


def _rewrites(request: MutantsRequest) -> list[str]:
    """Return the ids of a request's rewrites; with a sample, a sample of that size."""
    if not request.rewrites:
        return []
    names = [one.id for one in rewrites() if (one.variant, one.output_stride) in request.subjects]
    if request.sample is None:
        return names
    return sorted(random.Random(request.seed).sample(names, min(request.sample, len(names))))  # noqa: S311 - a sample


def strength(entries: Sequence[Entry], request: MutantsRequest, context: Json) -> MutantsDocument:
    """Sum up the verdicts on every network."""
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
        isolated=request.isolated,
        versions=context["versions"],
        total=len(faulty),
        killed=sum(not _survivors(entry) for entry in faulty),
        survivors=tuple(survivors),
        equal=_equal(found),
        unfit=context["unfit"],
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

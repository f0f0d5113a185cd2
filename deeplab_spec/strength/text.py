"""The strength of the judge as text for a terminal and as a Markdown page."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from deeplab_spec.precision import BFLOAT16, FLOAT16
from deeplab_spec.spec.clauses import CLAUSES
from deeplab_spec.strength.document import MutantsDocument
from deeplab_spec.views.table import Grid, markdown, plain

SHOWN: Final = 20
"""Number of survivors that the text lists."""

MEASURED: Final = f"in {BFLOAT16.name} and {FLOAT16.name}, weights and images are cast; mixed precision is not tried"
"""How lower precisions are measured."""

ISOLATED: Final = "a candidate's process built and ran every network, as for certify"


def text(document: MutantsDocument) -> str:
    """Return the report for a terminal: rates and survivors."""
    parts = [plain(levels(document)), f"{plain(dtypes(document))}\n{MEASURED}", *_lines(document)]
    parts += [ISOLATED] if document.isolated else []
    parts += [f"survives {entry.level}: {entry.name} ({entry.subject})" for entry in document.survivors[:SHOWN]]
    parts += [f"refused although equal: {name}" for name in (document.rewrites.rejected if document.rewrites else ())]
    if len(document.survivors) > SHOWN:
        parts.append(f"and {len(document.survivors) - SHOWN} more, all of them with --json")
    return "\n\n".join((*parts[:2], "\n".join(parts[2:]), headline(document)))


def headline(document: MutantsDocument) -> str:
    """Return the result in one line."""
    rate = 100 * document.killed / document.total if document.total else 0.0
    networks = ", ".join(document.variants)
    return f"{document.killed:,} of {document.total:,} wrong networks of {networks} refused, {rate:.2f} %"


def levels(document: MutantsDocument) -> Grid:
    """Return the table of what each level refuses without the others."""
    return _rates(
        ("level alone", "must show"), {name: (each.shown, each.killed) for name, each in document.by_level.items()}
    )


def dtypes(document: MutantsDocument) -> Grid:
    """Return the table of what the values show in each precision, with the graph hidden."""
    return _rates(
        ("end to end in", "tried"), {name: (each.tried, each.killed) for name, each in document.by_dtype.items()}
    )


def _rates(headers: tuple[str, str], counts: Mapping[str, tuple[int, int]]) -> Grid:
    rows = [(name, f"{whole:,}", f"{killed:,}", _percent(killed, whole)) for name, (whole, killed) in counts.items()]
    return Grid(headers=(*headers, "refused", "rate"), rows=tuple(rows), right=frozenset({1, 2, 3}))


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else ""


def _lines(document: MutantsDocument) -> Iterator[str]:
    named = document.localised
    rate = _percent(named.exact, named.total)
    yield f"first finding at the node with the fault: {named.exact:,} of {named.total:,}, {rate}"
    if document.full_width:
        yield f"at full width: {document.full_width.killed:,} of a sample of {document.full_width.total:,} refused"
    equal = sum(entry.total for entry in document.equal)
    refused = sum(len(entry.refused) for entry in document.equal)
    yield f"proven to be the same function: {equal:,}, {refused:,} of them refused by the structure"
    yield f"not executable, because shapes do not fit: {document.unfit:,}"
    if document.rewrites:
        rewrites = document.rewrites
        yield (
            f"equal networks accepted: {rewrites.accepted:,} of {rewrites.total:,}, of {len(rewrites.kinds)} kinds; "
            f"largest error: {rewrites.float64_error:.2g} in float64, {rewrites.float32_ratio:.3g} times the "
            "specification's own in float32"
        )
    if document.margins:
        margins = document.margins
        yield (
            f"smallest error in float64: {margins.float64:.2g}, limit {margins.float64_limit:g}: "
            f"{margins.float64_mutant}"
        )
        yield (
            f"smallest error in float32: {margins.float32:.3g} times the specification's own, limit "
            f"{margins.float32_limit:g}: {margins.float32_mutant}"
        )


def page(document: MutantsDocument, command: str) -> str:
    """Return the Markdown page of a report, with the command line that makes it."""
    return "\n\n".join(
        (
            "# How strong the judge is",
            _introduction(document),
            f"Made by `{command}`.",
            markdown(levels(document)),
            markdown(dtypes(document)),
            f"{MEASURED[0].upper()}{MEASURED[1:]}.",
            "\n".join(f"- {line}" for line in _lines(document)),
            "## Survivors",
            "\n".join(_survivors(document)) or "None.",
            "## Equal networks",
            "\n".join(f"- {name}" for name in _equal_ones(document)) or "None were judged.",
            "## Proven to be the same function",
            markdown(_equal(document)),
            "## First finding at another node",
            "\n".join(f"- {line}" for line in document.localised.elsewhere) or "None.",
            "## What each clause refuses",
            "Each number counts the mutants of a kind that the clause refuses; several clauses may refuse one mutant.",
            markdown(_matrix(document)),
        )
    )


def _introduction(document: MutantsDocument) -> str:
    strides = " and ".join(map(str, document.output_strides))
    isolated = f" {ISOLATED[0].upper()}{ISOLATED[1:]}." if document.isolated else ""
    structure = "reads the exported graph" if document.isolated else "runs nothing"
    sample = "all mutants" if document.sample is None else f"a sample of {document.sample} mutants of each network"
    return (
        f"{headline(document)}. Output strides {strides}; {sample}. Each level judges without the others: the "
        f"structure {structure}; numerics and training know the names of the tensors, but not the graph. A mutant "
        "counts as refused if it is refused by every level on which it must show. A mutant that shows in training "
        f"only is judged at output stride {document.output_strides[-1]}, because its node is the same at all. Width "
        f"{document.width:g} unless stated otherwise, seed {document.seed}, "
        f"torch {document.versions.get('torch', '')}.{isolated}"
    )


def _survivors(document: MutantsDocument) -> Iterator[str]:
    for entry in document.survivors:
        error = "" if entry.error is None else f", relative error {entry.error:.2g}"
        yield f"- {entry.level}: {entry.name} ({entry.subject}, width {entry.width:g}{error})"


def _equal_ones(document: MutantsDocument) -> Iterator[str]:
    if document.rewrites:
        yield from (f"refused: {name}" for name in document.rewrites.rejected)
        yield from (f"{kind}: {count}" for kind, count in sorted(document.rewrites.kinds.items()))


def _equal(document: MutantsDocument) -> Grid:
    rows = [(entry.kind, entry.proof, f"{entry.total:,}", f"{len(entry.refused):,}") for entry in document.equal]
    headers = ("kind", "proof", "mutants", "refused all the same")
    return Grid(headers=headers, rows=tuple(rows), right=frozenset({2, 3}))


def _matrix(document: MutantsDocument) -> Grid:
    level = {clause.id: clause.level.value for clause in CLAUSES}
    rows = [
        (clause, level[clause], ", ".join(f"{kind} {count:,}" for kind, count in Counter(kinds).most_common()))
        for clause, kinds in document.by_clause.items()
    ]
    return Grid(headers=("clause", "level", "kinds"), rows=tuple(rows))

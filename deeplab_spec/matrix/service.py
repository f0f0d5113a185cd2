"""Judges the cells of a matrix; each is a piece."""

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from deeplab_spec.errors import DeepLabSpecError
from deeplab_spec.judge.judge import run
from deeplab_spec.judge.waivers import Waiver, Waivers
from deeplab_spec.matrix.document import Judged, MatrixDocument
from deeplab_spec.matrix.request import Cell, read_matrix
from deeplab_spec.pieces.plan import Done, Piece, Plan, timed
from deeplab_spec.spec.clauses import Level
from deeplab_spec.spec.variants import REFERENCE
from deeplab_spec.views.document import Json, digest_of_file
from deeplab_spec.views.progress import silent

COMMAND: Final = "certify"
WAIVER: Final = "[[waiver]]"
"""Where a waiver stands, for messages."""

_SECONDS: Final = {Level.INTERFACE: 10.0, Level.STRUCTURE: 6.0, Level.NUMERICS: 30.0, Level.TRAINING: 30.0}
"""About how long a level takes; only the ratios matter, which make shards alike."""


def planned(path: Path) -> Plan:
    """Return the run of a file."""
    matrix, cells = read_matrix(path)
    options = {"matrix": path.name, **matrix.model_dump(mode="json", include={"waiver", "accept_waivers"})}
    return Plan(command=COMMAND, options=options, pieces=tuple(map(_piece, cells)))


def _piece(cell: Cell) -> Piece:
    row = cell.target
    names = [name for name in (row.target, row.against) if name]
    inputs = {name: _inputs(name, cell.search) for name in names}
    return Piece(id=cell.id, cost=_SECONDS[cell.level], work={**cell.model_dump(mode="json"), "inputs": inputs})


def _inputs(target: str, search: Sequence[str]) -> str:
    """Return a digest of a target's file, or of the Python files of its package or beside its module."""
    name, _, attribute = target.partition(":")
    if not attribute:
        return digest_of_file(Path(target)) if Path(target).is_file() else ""
    if name == REFERENCE:
        return ""
    digest = hashlib.sha256()
    for file in _sources(name, [*search, ".", *sys.path]):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _sources(module: str, folders: Sequence[str]) -> list[Path]:
    """Return the files of a module's package, or the files beside a module that is in no package."""
    if module.endswith(".py"):
        return sorted(Path(module).parent.glob("*.py"))
    first = module.partition(".")[0]
    for folder in map(Path, folders):
        if (folder / first).is_dir():
            return sorted((folder / first).rglob("*.py"))
        if (folder / f"{first}.py").is_file():
            return sorted(folder.glob("*.py"))
    return []


def judge_cell(work: Json) -> dict[str, Any]:
    """Judge a cell; the result is a certificate without its time, or the reason why it could not run."""
    cell = Cell.model_validate({name: value for name, value in work.items() if name != "inputs"})
    try:
        certificate = run(cell.request, silent, cell.process)
    except DeepLabSpecError as error:
        return {"reason": str(error)}
    return {"certificate": certificate.model_copy(update={"seconds": 0.0}).model_dump(mode="json")}


def judge_here(pieces: Sequence[Piece]) -> Iterator[Done]:
    """Judge cells one after the other."""
    for piece in pieces:
        yield piece, *timed(judge_cell, piece.work)


def could_not_run(result: Mapping[str, Any]) -> bool:
    """Tell whether a cell could not run, and is tried again by the next run."""
    return "reason" in result


def summed(plan: Plan, results: Mapping[str, Any]) -> MatrixDocument:
    """Return the document of a run, with the waivers of its file applied.

    Raises:
        SpecError: If a waiver has expired, or covers no finding of any cell.
    """
    cells = tuple(_judged(piece, results[piece.id]) for piece in plan.pieces)
    given = plan.options["waiver"]
    if not given:
        return MatrixDocument(cells=cells)
    entries = tuple(
        Waiver(**{**entry, "where": WAIVER, "expires": date.fromisoformat(entry["expires"])}) for entry in given
    )
    waivers = Waivers(entries=entries, today=datetime.now(tz=UTC).date())
    waivers.check_used([cell.certificate for cell in cells if cell.certificate])
    accepted = plan.options["accept_waivers"]
    return MatrixDocument(cells=tuple(_waived(cell, waivers, accepted=accepted) for cell in cells))


def _waived(cell: Judged, waivers: Waivers, *, accepted: bool) -> Judged:
    if cell.certificate is None:
        return cell
    applied = waivers.applied(cell.certificate).model_copy(update={"waivers_accepted": accepted})
    return cell.model_copy(update={"certificate": applied})


def _judged(piece: Piece, result: Mapping[str, Any]) -> Judged:
    cell = Cell.model_validate({name: value for name, value in piece.work.items() if name != "inputs"})
    return Judged(
        id=cell.id,
        target=cell.target.label,
        output_stride=cell.output_stride,
        column=cell.column,
        reason=result.get("reason", ""),
        certificate=result.get("certificate"),
    )

"""Judges the cells of a matrix; each is a piece."""

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Final

from deeplab_spec.errors import DeepLabSpecError
from deeplab_spec.judge.judge import run
from deeplab_spec.judge.request import REFERENCE
from deeplab_spec.matrix.document import Judged, MatrixDocument
from deeplab_spec.matrix.request import Cell, read_matrix
from deeplab_spec.pieces.plan import Done, Piece, Plan
from deeplab_spec.spec.clauses import Level
from deeplab_spec.views.document import Json, digest_of_file
from deeplab_spec.views.progress import silent

COMMAND: Final = "certify"

_SECONDS: Final = {Level.INTERFACE: 10.0, Level.STRUCTURE: 6.0, Level.NUMERICS: 30.0, Level.TRAINING: 30.0}
"""About how long a level takes; only the ratios matter, which make shards alike."""


def planned(path: Path) -> Plan:
    """Return the run of a file.

    Args:
        path: The file.

    Raises:
        SpecError: If it is no file of a matrix.
        TargetError: If it cannot be read.
    """
    return Plan(command=COMMAND, options={"matrix": path.name}, pieces=tuple(map(_piece, read_matrix(path))))


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
        start = monotonic()
        yield piece, judge_cell(piece.work), monotonic() - start


def could_not_run(result: Mapping[str, Any]) -> bool:
    """Tell whether a cell could not run, and is tried again by the next run."""
    return "reason" in result


def summed(plan: Plan, results: Mapping[str, Any]) -> MatrixDocument:
    """Return the document of a run.

    Args:
        plan: The run.
        results: The results of its pieces by name.
    """
    return MatrixDocument(cells=tuple(_judged(piece, results[piece.id]) for piece in plan.pieces))


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

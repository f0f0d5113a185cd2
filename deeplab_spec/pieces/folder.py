"""A folder of finished pieces: the plan, one file a piece, and how long each took; and the union of several.

Every file is written whole or not at all, so that a run which was stopped continues with what is missing, and several
shards may share a folder.
"""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from deeplab_spec.errors import SpecError, TargetError
from deeplab_spec.pieces.plan import Execute, Piece, Plan, Shard, Took
from deeplab_spec.views.document import Document, canonical, read_bounded, write_whole
from deeplab_spec.views.progress import Progress

_PLAN: Final = "plan.json"
_TIMES: Final = "times"
_MOST_BYTES: Final = 2**28

Kind = TypeVar("Kind", bound=BaseModel)


class Finished(Document):
    """The file of a piece."""

    run: str
    piece: str
    shard: str
    result: Any


def cache_folder() -> Path:
    """Return the folder of this package in the user's cache, which is made if it is missing."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deeplab-spec"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of finished pieces."""

    path: Path

    def plan(self) -> Plan | None:
        """Return the plan of the run whose pieces are here; None if there is none.

        Raises:
            SpecError: If the file holds something else.
        """
        file = self.path / _PLAN
        return _read(file, Plan) if file.exists() else None

    def start(self, plan: Plan) -> None:
        """Write the plan, or check that the folder belongs to it.

        Raises:
            SpecError: If the folder has pieces of another run.
            TargetError: If the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TargetError(str(self.path), f"cannot be made: {error.strerror}") from error
        there = self.plan()
        if there is not None:
            check_same(there, plan, str(self.path), "this command")
            return
        if any(self.path.glob("piece-*.json")):
            raise SpecError(str(self.path), "must hold no pieces, or those of this run", "pieces without a plan")
        write_whole(self.path / _PLAN, plan.text)

    def adopt(self, plan: Plan) -> None:
        """Start a run in the folder of an earlier one: finished pieces of equal work stay, the others are removed."""
        there = self.plan()
        if there is None or there.text == plan.text:
            return
        same = {piece.id: piece for piece in there.pieces if there.code == plan.code}
        finished = self.finished(there)
        times = {name: self.took(there, name) for name in finished}
        self.forget()
        self.start(plan)
        for piece in plan.pieces:
            if piece.id in finished and same.get(piece.id) == piece:
                kept = finished[piece.id]
                self.write(plan, Shard.read(kept.shard), piece, kept.result, times[piece.id])

    def forget(self) -> None:
        """Remove the plan and the finished pieces."""
        for file in [self.path / _PLAN, *self.path.glob("piece-*.json"), *(self.path / _TIMES).glob("piece-*.json")]:
            file.unlink(missing_ok=True)

    def finished(self, plan: Plan) -> dict[str, Finished]:
        """Return the finished pieces by name.

        Raises:
            SpecError: If a file holds something else, or a piece of another run.
        """
        known = {file_name(plan, piece.id): piece.id for piece in plan.pieces}
        found = {}
        for file in sorted(self.path.glob("piece-*.json")):
            piece = _read(file, Finished)
            if piece.run != plan.digest or known.get(file.name) != piece.piece:
                raise SpecError(str(file), f"must be a piece of the run of {_PLAN}", piece.piece)
            found[piece.piece] = piece
        return found

    def write(self, plan: Plan, shard: Shard, piece: Piece, result: object, took: Took) -> None:
        """Keep the result of a piece; its time has a file of its own, because it differs from run to run."""
        name = file_name(plan, piece.id)
        finished = Finished(run=plan.digest, piece=piece.id, shard=str(shard), result=result)
        times = self.path / _TIMES
        times.mkdir(exist_ok=True)
        write_whole(times / name, canonical([round(each, 3) for each in took]))
        write_whole(self.path / name, canonical(finished.model_dump(mode="json")))

    def took(self, plan: Plan, piece: str) -> Took:
        """Return how long a piece took; 0 if that is not known."""
        with suppress(OSError, ValueError, TypeError):
            return Took(*map(float, json.loads((self.path / _TIMES / file_name(plan, piece)).read_text("utf-8"))))
        return Took(0.0, 0.0)


def run(
    plan: Plan,
    shard: Shard,
    folder: Folder | None,
    execute: Execute,
    progress: Progress,
    again: Callable[[Any], bool] = lambda _result: False,
) -> dict[str, Any]:
    """Run the pieces of a shard that are not finished; return the results of all by name.

    Finished pieces are kept in the folder, if there is one; a piece whose result is to be had ``again`` runs once more.
    """
    pieces = plan.shard(shard)
    results: dict[str, Any] = {}
    if folder is not None:
        folder.start(plan)
        kept = folder.finished(plan)
        results = {each.id: kept[each.id].result for each in pieces if each.id in kept}
        results = {name: result for name, result in results.items() if not again(result)}
    progress(f"{len(results)} of {len(pieces)} pieces", len(results), len(pieces))
    for piece, result, took in execute([piece for piece in pieces if piece.id not in results]):
        results[piece.id] = json.loads(canonical(result))  # as it is read from a folder, down to the order of names
        if folder is not None:
            folder.write(plan, shard, piece, result, took)
        progress(f"{len(results)} of {len(pieces)} pieces", len(results), len(pieces))
    return results


def recosted(plan: Plan, folders: Sequence[Folder]) -> Plan:
    """Return a run whose pieces cost what they took in an earlier run, where that is known: in processor time.

    Raises:
        SpecError: If a folder has no plan.
    """
    known: dict[str, float] = {}
    for folder in folders:
        earlier = _plan(folder.path)
        took = {piece.id: folder.took(earlier, piece.id).processor for piece in earlier.pieces}
        known |= {name: seconds for name, seconds in took.items() if seconds}
    pieces = (piece.model_copy(update={"cost": known.get(piece.id, piece.cost)}) for piece in plan.pieces)
    return plan.model_copy(update={"pieces": tuple(pieces)}) if folders else plan


def file_name(plan: Plan, piece: str) -> str:
    """Return the name of a piece's file: its place in the run."""
    return f"piece-{plan.places[piece]:05}.json"


def check_same(plan: Plan, other: Plan, where: str, whose: str) -> None:
    """Check that two plans are of one run.

    ``where`` is where the plan was found, ``whose`` where the other was.

    Raises:
        SpecError: If they differ; it names the first difference.
    """
    if plan.text == other.text:
        return
    for part in ("command", "version", "code"):
        _check(where, whose, part, getattr(plan, part), getattr(other, part))
    for name in sorted(plan.options.keys() | other.options.keys()):
        _check(where, whose, f"option {name}", plan.options.get(name), other.options.get(name))
    raise SpecError(where, f"must be of the run of {whose}, whose pieces are others", plan.digest[:12])


def _check(where: str, whose: str, part: str, actual: object, expected: object) -> None:
    if actual != expected:
        raise SpecError(where, f"must be of the run of {whose}, whose {part} is {expected!r}", actual)


def _read(file: Path, kind: type[Kind]) -> Kind:
    try:
        return kind.model_validate_json(read_bounded(file, _MOST_BYTES))
    except ValidationError as error:
        raise SpecError(str(file), "must be a file that this program wrote", error.errors()[0]["msg"]) from error


def merged(paths: Sequence[Path]) -> tuple[Plan, dict[str, Any]]:
    """Return the plan of the run that folders hold the pieces of, and the results by piece.

    Raises:
        SpecError: If a folder belongs to another run, or a piece is lost or there twice; it names which.
    """
    plan = _plan(paths[0])
    found: dict[str, tuple[Path, Finished]] = {}
    for path in paths:
        check_same(_plan(path), plan, str(path), str(paths[0]))
        for name, piece in Folder(path).finished(plan).items():
            if name in found:
                twice = f"{name!r} of shard {piece.shard} twice: in {found[name][0]} and in {path}"
                raise SpecError("merge", "must have each piece once", twice)
            found[name] = (path, piece)
    lost = [piece.id for piece in plan.pieces if piece.id not in found]
    if lost:
        shards = _shards_with(plan, lost, {piece.shard for _, piece in found.values()})
        rule = f"must have each of the {len(plan.pieces)} pieces"
        raise SpecError("merge", f"{rule}; {len(lost)} are lost{shards}", lost[0])
    return plan, {piece.id: found[piece.id][1].result for piece in plan.pieces}


def _plan(path: Path) -> Plan:
    plan = Folder(path).plan()
    if plan is None:
        raise SpecError(str(path), "must be a folder of pieces", "no plan.json")
    return plan


def _shards_with(plan: Plan, lost: Sequence[str], shards: set[str]) -> str:
    """Name the shards that lost pieces belong to, if the others say how many there are."""
    counts = {Shard.read(shard).count for shard in shards}
    if len(counts) != 1:
        return ""
    (count,) = counts
    dealt = enumerate(plan.shards(count), 1)
    names = [f"{number}/{count}" for number, pieces in dealt if not {piece.id for piece in pieces}.isdisjoint(lost)]
    return f", of shard {' and '.join(names)}"


def balance(plan: Plan, paths: Sequence[Path]) -> str:
    """Return in one line how long the shards took, and which part of all time the longest one took."""
    shards: dict[str, Took] = {}
    for path in paths:
        for name, piece in Folder(path).finished(plan).items():
            before, took = shards.get(piece.shard, Took(0.0, 0.0)), Folder(path).took(plan, name)
            shards[piece.shard] = Took(before.seconds + took.seconds, before.processor + took.processor)
    each = ", ".join(f"{shard} {took.seconds:.1f} s" for shard, took in sorted(shards.items()))
    parts = [
        _longest([took.seconds for took in shards.values()]),
        _longest([took.processor for took in shards.values()]),
    ]
    return f"{len(plan.pieces)} pieces: {each}; the longest is {parts[0]}, of processor time {parts[1]}"


def _longest(shards: Sequence[float]) -> str:
    longest = max(shards, default=0.0)
    return f"1/{sum(shards) / longest:.2f} of {sum(shards):.1f} s" if longest else "nothing"

"""Puts the pieces of folders together, and proves that they are one run: every piece once, and no other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deeplab_spec.errors import SpecError
from deeplab_spec.pieces.folder import Finished, Folder, check_same
from deeplab_spec.pieces.plan import Plan, Shard, Took


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

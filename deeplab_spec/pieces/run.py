"""Runs the pieces of a shard, and keeps each when it is finished."""

import json
from collections.abc import Callable
from typing import Any

from deeplab_spec.pieces.folder import Folder
from deeplab_spec.pieces.plan import Execute, Plan, Shard
from deeplab_spec.views.document import canonical
from deeplab_spec.views.progress import Progress


def run(
    plan: Plan,
    shard: Shard,
    folder: Folder | None,
    execute: Execute,
    progress: Progress,
    again: Callable[[Any], bool] = lambda _result: False,
) -> dict[str, Any]:
    """Run the pieces of a shard that are not finished.

    Finished pieces are kept in the folder, if there is one; a piece whose result is to be had ``again`` runs once more.

    Returns:
        The results of the shard's pieces by name.
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

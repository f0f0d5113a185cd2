"""Works on every core, and goes on where an earlier run stopped."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from pydantic import ValidationError

from deeplab_spec.child_process import ChildProcess, python_module, wait
from deeplab_spec.errors import ChildError, TargetError
from deeplab_spec.strength.work_units import ENTRIES, ENTRY, PIECE, Entry, Piece
from deeplab_spec.views.progress import Progress


def work(pieces: Sequence[Piece], processes: int, journal: Path | None, progress: Progress) -> list[Entry]:
    """Do pieces of work.

    Args:
        pieces: The pieces; those that share something large in a row.
        processes: How many work at the same time.
        journal: Keeps what was done, a line for each entry; None to keep nothing.
        progress: Told how far the work is.

    Returns:
        The entries, in the order of the pieces.
    """
    known = {entry.key: entry for entry in _read(journal)}
    keys = [key for piece in pieces for key in piece.keys]
    left = [found for piece in pieces if (found := piece.left(known)) is not None]
    done = sum(key in known for key in keys)
    with _writer(journal) as write:
        for entries in _done(left, processes):
            for entry in entries:
                known[entry.key] = entry
                write(entry.model_dump_json())
            done += len(entries)
            progress(f"{done:,} of {len(keys):,} networks", done, len(keys))
    return [known[key] for key in keys]


def _done(pieces: Sequence[Piece], processes: int) -> Iterator[Sequence[Entry]]:
    """Run pieces side by side, and yield the entries of each when it is done.

    Raises:
        TargetError: If a process ends before it is done.
    """
    if processes == 1:
        yield from (piece.run() for piece in pieces)
        return
    waiting = list(reversed(pieces))
    with ExitStack() as stack:
        command = python_module("deeplab_spec.strength.work_units")
        idle = [stack.enter_context(ChildProcess(command)) for _ in pieces[:processes]]
        busy: list[ChildProcess] = []
        while waiting or busy:
            while waiting and idle:
                busy.append(idle.pop())
                busy[-1].send(PIECE.dump_json(waiting.pop()).decode())
            wait(busy)
            for child in list(busy):
                try:
                    answer = child.poll()
                except ChildError as error:
                    raise TargetError("mutants", error.reason) from error
                if answer is not None:
                    busy.remove(child)
                    idle.append(child)
                    yield ENTRIES.validate_python(answer["entries"])


class _writer:  # noqa: N801 - a context manager that reads as a function
    """Appends lines to a journal, each at once; without one, nothing."""

    def __init__(self, journal: Path | None) -> None:
        self.file = journal.open("a", encoding="utf-8") if journal else None

    def __enter__(self) -> Callable[[str], None]:
        return self._write

    def __exit__(self, *_: object) -> None:
        if self.file:
            self.file.close()

    def _write(self, line: str) -> None:
        if self.file:
            self.file.write(f"{line}\n")
            self.file.flush()


def _read(journal: Path | None) -> Iterator[Entry]:
    """Return what a journal holds; its last line may be half written."""
    if journal is None or not journal.exists():
        return
    for line in journal.read_text(encoding="utf-8").splitlines():
        try:
            yield ENTRY.validate_json(line)
        except ValidationError:
            continue


def journal_for(settings: Sequence[object]) -> Path:
    """Return the journal of a run: another one for every change of the code that judges, and of its settings."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deeplab-spec"
    cache.mkdir(parents=True, exist_ok=True)
    package = Path(__file__).parents[1]
    digest = hashlib.sha256(json.dumps([torch.__version__, *map(str, settings)]).encode())
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] not in {"bench", "cli", "gate", "measure", "profile", "views"}:
            digest.update(path.read_bytes())
    return cache / f"mutants-{digest.hexdigest()[:16]}.jsonl"

"""Works on every core, and goes on where an earlier run stopped."""

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol, Self

import torch
from pydantic import TypeAdapter, ValidationError

from deeplab_spec.strength.document import Judged, Rewritten

Entry = Judged | Rewritten
_ENTRY: Final[TypeAdapter[Entry]] = TypeAdapter(Entry)

Progress = Callable[[str, int, int], None]


class Piece(Protocol):
    """What one process does in a row."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the entries that it makes, in order."""
        ...

    def left(self, known: Container[str]) -> Self | None:
        """Return what is left of it; None if everything is known."""
        ...

    def run(self) -> Sequence[Entry]:
        """Do it."""
        ...


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
    if processes == 1:
        yield from map(_do, pieces)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, initializer=_start) as pool:
        yield from pool.imap_unordered(_do, pieces)


def _start() -> None:
    torch.set_num_threads(1)


def _do(piece: Piece) -> Sequence[Entry]:
    return piece.run()


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
            yield _ENTRY.validate_json(line)
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

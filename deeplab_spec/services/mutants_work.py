"""Judges mutants on every core, and goes on where an earlier run stopped."""

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch
from pydantic import ValidationError

from deeplab_spec.render.mutants_documents import Judged
from deeplab_spec.services.mutants_subject import Subject

CHUNK: Final = 16
"""So many mutants are one piece of work."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Mutants of one subject that one process judges in a row.

    Attributes:
        subject: Variant, output stride, width and seed.
        names: The mutants, each with whether dtypes below float32 are tried too.
    """

    subject: tuple[str, int, float, int]
    names: tuple[tuple[str, bool], ...]


@lru_cache(maxsize=1)
def subject_of(variant: str, output_stride: int, width: float, seed: int) -> Subject:
    """Return a subject; a process keeps the last one only, as its values are large."""
    return Subject(variant=variant, output_stride=output_stride, width=width, seed=seed)


def work(pieces: Sequence[Piece], processes: int, journal: Path | None, progress: Progress) -> list[Judged]:
    """Judge mutants.

    Args:
        pieces: What is to be judged, of each subject in a row.
        processes: How many work at the same time.
        journal: Keeps what was judged, a line each; None to keep nothing.
        progress: Told how far the work is.
    """
    known = {(entry.subject, entry.width, entry.name): entry for entry in _read(journal)}
    wanted = [(piece.subject, name) for piece in pieces for name, _ in piece.names]
    keys = [(f"{subject[0]}@{subject[1]}", subject[2], name) for subject, name in wanted]
    left = [_left(piece, known) for piece in pieces]
    done = sum(key in known for key in keys)
    with _writer(journal) as write:
        for found in _judged([piece for piece in left if piece.names], processes):
            for entry in found:
                known[entry.subject, entry.width, entry.name] = entry
                write(entry.model_dump_json())
            done += len(found)
            progress(f"{done} of {len(keys)} mutants", done, len(keys))
    return [known[key] for key in keys]


def _left(piece: Piece, known: dict[tuple[str, float, str], Judged]) -> Piece:
    variant, output_stride, width, _ = piece.subject
    label = f"{variant}@{output_stride}"
    names = tuple(entry for entry in piece.names if (label, width, entry[0]) not in known)
    return Piece(subject=piece.subject, names=names)


def _judged(pieces: Sequence[Piece], processes: int) -> Iterator[list[Judged]]:
    if processes == 1:
        yield from map(_piece, pieces)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, initializer=_start) as pool:
        yield from pool.imap_unordered(_piece, pieces)


def _start() -> None:
    torch.set_num_threads(1)


def _piece(piece: Piece) -> list[Judged]:
    subject = subject_of(*piece.subject)
    return [subject.judge(name, lower=lower) for name, lower in piece.names]


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


def _read(journal: Path | None) -> Iterator[Judged]:
    """Return what a journal holds; its last line may be half written."""
    if journal is None or not journal.exists():
        return
    for line in journal.read_text(encoding="utf-8").splitlines():
        try:
            yield Judged.model_validate_json(line)
        except ValidationError:
            continue


def journal_for(settings: Sequence[object]) -> Path:
    """Return the journal of a run: another one for every change of the code that judges, and of its settings."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deeplab-spec"
    cache.mkdir(parents=True, exist_ok=True)
    package = Path(__file__).parents[1]
    digest = hashlib.sha256(json.dumps([torch.__version__, *map(str, settings)]).encode())
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] not in {"cli", "render", "measure"}:
            digest.update(path.read_bytes())
    return cache / f"mutants-{digest.hexdigest()[:16]}.jsonl"

"""What the processes that measure the strength of the judge do: mutants of one network, or one rewrite."""

import sys
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import torch
from pydantic import TypeAdapter

from deeplab_spec.child_process import answers
from deeplab_spec.mutate.rewrites.catalogue import rewrite
from deeplab_spec.strength.document import Judged, Rewritten, key_of
from deeplab_spec.strength.levels import Subject
from deeplab_spec.strength.rewrites import judged

CHUNK: Final = 16
"""So many mutants are one piece of work."""

Key = tuple[str, int, float, int, tuple[str, ...]]
"""Variant, output stride, width, seed, and choices that differ from the variant's."""


@lru_cache(maxsize=1)
def subject_of(variant: str, output_stride: int, width: float, seed: int, overrides: tuple[str, ...] = ()) -> Subject:
    """Return a subject; a process keeps the last one only, as its values are large."""
    return Subject(variant=variant, output_stride=output_stride, width=width, seed=seed, overrides=overrides)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutants:
    """Mutants of one subject.

    Attributes:
        subject: The subject.
        names: The mutants, each with whether dtypes below float32 are tried too.
    """

    subject: Key
    names: tuple[tuple[str, bool], ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the entries."""
        return tuple(self._key(name) for name, _ in self.names)

    def left(self, known: Container[str]) -> "Mutants | None":
        """Return the mutants that are not known."""
        names = tuple(entry for entry in self.names if self._key(entry[0]) not in known)
        return replace(self, names=names) if names else None

    def run(self) -> list[Judged]:
        """Judge them."""
        subject = subject_of(*self.subject)
        return [subject.judge(name, lower=lower) for name, lower in self.names]

    def _key(self, name: str) -> str:
        variant, output_stride, width, *_ = self.subject
        return key_of(f"{variant}@{output_stride}", width, name)


def in_pieces(subject: Key, names: Sequence[str], lower_every: int | None) -> Iterable[Mutants]:
    """Split mutants of a subject.

    Args:
        subject: The subject.
        names: The mutants.
        lower_every: One in so many is tried in dtypes below float32; None for none.
    """
    asked = [(name, lower_every is not None and number % lower_every == 0) for number, name in enumerate(names)]
    for start in range(0, len(asked), CHUNK):
        yield Mutants(subject=subject, names=tuple(asked[start : start + CHUNK]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrites:
    """One equal network.

    Attributes:
        name: Its id.
    """

    name: str

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the entries."""
        return (f"rewrite {self.name}",)

    def left(self, known: Container[str]) -> "Rewrites | None":
        """Return it, unless it is known."""
        return None if self.keys[0] in known else self

    def run(self) -> list[Rewritten]:
        """Judge it."""
        found = judged(self.name)
        return [
            Rewritten(
                name=self.name,
                kind=rewrite(self.name).kind,
                refused=found.refused,
                float32_ratio=found.float32_ratio,
                float64_error=found.float64_error,
            )
        ]


Piece = Mutants | Rewrites
"""What one process does without a break."""

Entry = Judged | Rewritten
"""One result of a piece."""

PIECE: Final[TypeAdapter[Piece]] = TypeAdapter(Piece)
ENTRY: Final[TypeAdapter[Entry]] = TypeAdapter(Entry)
ENTRIES: Final[TypeAdapter[list[Entry]]] = TypeAdapter(list[Entry])


def main() -> None:
    """Run the pieces on stdin, one at a time with one thread, and answer each with its entries."""
    torch.set_num_threads(1)
    with answers() as send:
        for line in sys.stdin:
            entries = PIECE.validate_json(line).run()
            send({"entries": [entry.model_dump(mode="json") for entry in entries]})


if __name__ == "__main__":
    main()

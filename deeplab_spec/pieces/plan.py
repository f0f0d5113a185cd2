"""The plan of a run: what it is, its pieces in order, and its shards.

A piece is a unit of work that gives the same result wherever it runs. The result of a run is made from the results of
its pieces in order, and from nothing else.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import Field

from deeplab_spec.errors import SpecError
from deeplab_spec.views.document import Document, Json, Model, canonical

Given = TypeVar("Given")
Got = TypeVar("Got")

_PACKAGE: Final = Path(__file__).parents[1]
_DECIDE_NOTHING: Final = frozenset({"bench", "cli", "gate", "measure", "pieces", "profile", "views"})
"""Folders of the package whose code changes no verdict."""


def version_of(package: str) -> str:
    """Return the version of a package; empty if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Return the SHA-256 of the code that decides: of this package, and the version of torch."""
    digest = hashlib.sha256(version_of("torch").encode())
    for path in sorted(_PACKAGE.rglob("*.py")):
        if path.relative_to(_PACKAGE).parts[0] not in _DECIDE_NOTHING:
            digest.update(path.read_bytes())
    return digest.hexdigest()


class Piece(Model):
    """A unit of work."""

    id: str = Field(description="Its name; no other piece of the run has it.")
    cost: float = Field(description="Estimated seconds, or those of an earlier run; shards are dealt by it.")
    work: Json = Field(description="What is to be done, as the command reads it.")


class Took(NamedTuple):
    """How long a piece took.

    Attributes:
        seconds: By the clock.
        processor: Seconds of processor time, with that of its processes; other programs do not change it.
    """

    seconds: float
    processor: float


def timed(work: Callable[[Given], Got], given: Given) -> tuple[Got, Took]:
    """Return a result, and how long it took."""
    start, used = monotonic(), sum(os.times()[:4])
    result = work(given)
    return result, Took(monotonic() - start, sum(os.times()[:4]) - used)


Done = tuple[Piece, Any, Took]
"""A piece, its result as JSON, and how long it took."""

Execute = Callable[[Sequence[Piece]], Iterator[Done]]
"""Runs pieces, and yields each when it is done."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several parts of a run of nearly equal cost.

    Attributes:
        number: Its number, from 1.
        count: The number of shards.

    Raises:
        SpecError: If there is no such shard.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise SpecError("--shard", "must be k/n, with k from 1 to n", str(self))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def read(cls, text: str) -> "Shard":
        """Read a shard.

        >>> Shard.read("2/4")
        Shard(number=2, count=4)
        """
        if not re.fullmatch(r"\d{1,4}/\d{1,4}", text, re.ASCII):
            raise SpecError("--shard", "must be k/n, with k from 1 to n", text)
        return cls(*map(int, text.split("/")))


WHOLE: Final = Shard(1, 1)


class Plan(Document):
    """A run before it starts. Equal options, inputs and code make the same plan, byte for byte."""

    command: str
    version: str = Field(default_factory=lambda: version_of("deeplab-spec"), description="Version of this package.")
    code: str = Field(default_factory=code_digest, description="SHA-256 of the code and libraries that decide.")
    options: Json = Field(description="The options that change the result.")
    context: Json = Field(default={}, description="What else the result is made from.")
    pieces: tuple[Piece, ...]

    @cached_property
    def text(self) -> str:
        """The plan as its file holds it."""
        return canonical(self.model_dump(mode="json"))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the plan."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each piece in the run."""
        return {piece.id: place for place, piece in enumerate(self.pieces)}

    def shards(self, count: int) -> list[list[Piece]]:
        """Deal the pieces to shards: the longest ones first, each to the shortest shard; each shard is in order."""
        dealt: list[list[Piece]] = [[] for _ in range(count)]
        loads = [0.0] * count
        for piece in sorted(self.pieces, key=lambda piece: -piece.cost):
            shortest = loads.index(min(loads))
            loads[shortest] += piece.cost
            dealt[shortest].append(piece)
        return [sorted(pieces, key=lambda piece: self.places[piece.id]) for pieces in dealt]

    def shard(self, shard: Shard) -> list[Piece]:
        """Return the pieces of a shard, in order."""
        return self.shards(shard.count)[shard.number - 1]

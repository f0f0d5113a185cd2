"""Pairs and processes for tests of the gate, without measuring anything."""

from typing import Self

from deeplab_spec.gate.pairs import Pair


def make_pair(
    log_ratio: float = 0.0, *, witness_ratio: float = 1.0, apart: float = 1.0, drift: float = 1.0, slowed_by: str = ""
) -> Pair:
    """Return a pair that took six seconds, on a processor with a constant clock by default."""
    return Pair(
        log_ratio=log_ratio,
        base_seconds=0.03,
        head_seconds=0.03,
        witness_ratio=witness_ratio,
        apart=apart,
        drift=drift,
        slowed_by=slowed_by,
        seconds=6.0,
        device="cpu",
        torch="2.13.0",
        built=("m:build()", "m:build()"),
    )


class FakeProcesses:
    """Stands in for ``PairProcesses``: it starts at once and returns a known pair.

    Args:
        pair: The pair that ``measure`` returns.
        log: Receives every call, in order.
        number: The number of the pair.
        room: How many more pairs fit into memory.
    """

    def __init__(self, pair: Pair, log: list[str], number: int = 0, room: int = 9) -> None:
        self.pair = pair
        self.log = log
        self.number = number
        self.room = room
        self.seconds = 0.0
        self.built = pair.built
        log.append(f"start {number}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.log.append(f"end {self.number}")

    def ready(self) -> int:
        """Return how many more pairs fit into memory."""
        self.log.append(f"ready {self.number}")
        return self.room

    def measure(self) -> Pair:
        """Return the pair."""
        self.log.append(f"measure {self.number}")
        return self.pair

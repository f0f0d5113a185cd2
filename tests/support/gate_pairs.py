"""Pairs that were not measured, and samples that were not taken."""

from typing import Self

from deeplab_spec.gate.pairs import Pair


def made(
    log_ratio: float = 0.0, *, witness_ratio: float = 1.0, apart: float = 1.0, drift: float = 1.0, slowed_by: str = ""
) -> Pair:
    """Return a pair that took six seconds, on a processor whose clock holds still unless it is said."""
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


class FakeStarted:
    """A pair that is started at once, and whose measuring is looking into a list.

    Args:
        pair: What it measures.
        log: What is done, in order.
        number: Of the pair.
        room: How many more pairs have room.
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
        """Say how much room there is."""
        self.log.append(f"ready {self.number}")
        return self.room

    def measure(self) -> Pair:
        """Return the pair."""
        self.log.append(f"measure {self.number}")
        return self.pair

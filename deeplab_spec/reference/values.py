"""Intermediate values by name: how a forward pass hands out what happens inside it."""

from typing import Final

from torch import Tensor


class Values:
    """Keeps the values that somebody asked for while they are computed.

    A layer shows every value that it computes, under the path of the node it belongs to, and
    goes on with what it gets back, which is the same tensor.

    Args:
        wanted: Paths of the values to keep.
        outer: Who else is to see the values.
    """

    def __init__(self, *wanted: str, outer: "Values | None" = None) -> None:
        self._wanted: frozenset[str] | None = frozenset(wanted)
        self._outer = outer
        self.found: dict[str, Tensor] = {}

    @classmethod
    def everything(cls) -> "Values":
        """Return an object that keeps every value."""
        values = cls()
        values._wanted = None
        return values

    def keep(self, path: str, value: Tensor) -> Tensor:
        """Keep a value if it is wanted, and return it."""
        if self._wanted is None or path in self._wanted:
            self.found[path] = value
        if self._outer is not None:
            self._outer.keep(path, value)
        return value

    def __getitem__(self, path: str) -> Tensor:
        """Return the value that was kept under a path; KeyError if there is none."""
        return self.found[path]


DISCARD: Final = Values()
"""For a forward pass that nobody looks into: it keeps nothing."""

"""Intermediate values of a forward pass, by name."""

from typing import Final

from torch import Tensor


class Values:
    """Keeps selected values while a forward pass computes them.

    A layer passes every value that it computes to :meth:`keep`, under the path of its node, and continues
    with the returned tensor, which is the same.

    Args:
        paths: Paths of the values to keep.
        outer: Another collector, which gets every value too.

    Attributes:
        kept: The values by path.
    """

    def __init__(self, *paths: str, outer: "Values | None" = None) -> None:
        self._paths: frozenset[str] | None = frozenset(paths)
        self._outer = outer
        self.kept: dict[str, Tensor] = {}

    @classmethod
    def everything(cls) -> "Values":
        """Return a collector that keeps every value."""
        values = cls()
        values._paths = None
        return values

    def keep(self, path: str, value: Tensor) -> Tensor:
        """Keep a value if its path is selected, and return it."""
        if self._paths is None or path in self._paths:
            self.kept[path] = value
        if self._outer is not None:
            self._outer.keep(path, value)
        return value

    def __getitem__(self, path: str) -> Tensor:
        """Return the kept value of a path; KeyError if there is none."""
        return self.kept[path]


DISCARD: Final = Values()
"""The default of every forward pass: keeps nothing."""

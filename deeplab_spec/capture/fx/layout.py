"""Where the elements of a value stand: reshapes and permutations, known exactly.

A view, a permutation or a reshape moves the elements of a value and computes nothing. A layout says
which element stands where, whatever calls brought it there, so two ways to one order are equal, and
a way there and back again is no way at all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from torch import Tensor, fx


@dataclass(frozen=True, slots=True)
class Atom:
    """A piece of one axis of the base: of a height in blocks of 4, the blocks, or the rows in a block.

    Attributes:
        axis: The axis of the base.
        step: How far along it one step of the piece goes.
        size: How many steps there are; above 1.
    """

    axis: int
    step: int
    size: int


Axis = tuple[Atom, ...]
"""One axis of a value: the pieces that it counts through, the slowest first; none if it has one element."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A value as another order of the elements of a base.

    Attributes:
        base: Shape of the base.
        axes: The axes of the value; together they hold every piece of the base once.
    """

    base: tuple[int, ...]
    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return tuple(prod(atom.size for atom in axis) for axis in self.axes)

    @property
    def identity(self) -> bool:
        """Whether the value is its base."""
        return self == identity_layout(self.base)

    @property
    def strided(self) -> bool:
        """Whether the value is a view of any base, so that what is written to it is written to the base."""
        return all(len(axis) <= 1 for axis in self.axes)

    def permuted(self, order: Sequence[int]) -> "Layout":
        """Return the layout after a permutation of axes."""
        return replace(self, axes=tuple(self.axes[axis] for axis in order))

    def reshaped(self, shape: Sequence[int]) -> "Layout | None":
        """Return the layout after a reshape; None if a new axis would cut a piece unevenly.

        >>> identity_layout((2, 6)).reshaped((2, 3, 2)).permuted((0, 2, 1)).reshaped((2, 6)).identity
        False
        """
        atoms = [atom for axis in self.axes for atom in axis][::-1]
        axes: list[Axis] = []
        for size in shape:
            axis: list[Atom] = []
            left = size
            while left > 1 and atoms:
                atom = atoms.pop()
                taken = min(atom.size, left)
                if atom.size % taken or left % taken:
                    return None
                inner = atom.size // taken
                axis.append(Atom(atom.axis, atom.step * inner, taken))
                atoms += [Atom(atom.axis, atom.step, inner)] * (inner > 1)
                left //= taken
            if left != 1:
                return None
            axes.append(_joined(axis))
        return None if atoms else replace(self, axes=tuple(axes))

    def place(self, base: Tensor) -> Tensor:
        """Bring the elements of a base where the value has them; a view of it where there is one."""
        atoms = self._atoms()
        order = sorted(range(len(atoms)), key=lambda number: (atoms[number].axis, -atoms[number].step))
        pieces = base.reshape([atoms[number].size for number in order])
        return pieces.permute([order.index(number) for number in range(len(atoms))]).reshape(self.shape)

    def back(self, value: Tensor) -> Tensor:
        """Bring the elements of a value where the base has them."""
        atoms = self._atoms()
        order = sorted(range(len(atoms)), key=lambda number: (atoms[number].axis, -atoms[number].step))
        return value.reshape([atom.size for atom in atoms]).permute(order).reshape(self.base)

    def _atoms(self) -> list[Atom]:
        return [atom for axis in self.axes for atom in axis]


def full_axis(axis: int, size: int) -> Axis:
    """Return the axis of a value that is a whole axis of its base."""
    return (Atom(axis, 1, size),) if size > 1 else ()


def identity_layout(shape: Sequence[int]) -> Layout:
    """Return the layout of a value that is its own base."""
    return Layout(tuple(shape), tuple(full_axis(axis, size) for axis, size in enumerate(shape)))


def _joined(atoms: Sequence[Atom]) -> Axis:
    """Join neighbours that are one piece together, so that one order is written in one way."""
    joined: list[Atom] = []
    for atom in atoms:
        last = joined[-1] if joined else None
        if last and last.axis == atom.axis and last.step == atom.step * atom.size:
            joined[-1] = Atom(atom.axis, atom.step, last.size * atom.size)
        else:
            joined.append(atom)
    return tuple(joined)


MAP_RANK: Final = 4
"""Axes of a batch of maps."""

CHANNELS: Final = 1
"""The axis of a batch of maps that counts channels."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """Where the arguments of a call have their elements.

    Attributes:
        value: Returns the layout of a value of the network; None for what is none.
        tensors: Layouts of parameters and buffers.
    """

    value: Callable[[fx.Node], Layout | None]
    tensors: Mapping[fx.Node, Layout]

    def map(self, argument: object) -> Layout | None:
        """Return the layout of a value whose base is a batch of maps."""
        layout = self.value(argument) if isinstance(argument, fx.Node) else None
        return layout if layout and len(layout.base) == MAP_RANK else None

    def tensor(self, argument: object) -> Layout | None:
        """Return the layout of a parameter or buffer."""
        return self.tensors.get(argument) if isinstance(argument, fx.Node) else None

    def vector(self, argument: object, size: int) -> Layout | None:
        """Return the layout of a parameter or buffer as a vector that can be written to."""
        tensor = self.tensor(argument)
        vector = tensor.reshaped((size,)) if tensor else None
        return vector if vector and vector.strided else None


def with_channels(layout: Layout, axis: int, channels: int) -> Layout | None:
    """Return the layout of the same maps with other channels; None if that axis of the value is not theirs.

    Args:
        layout: A value whose base is a batch of maps.
        axis: The axis of the value that counts channels, and nothing else.
        channels: How many there shall be.
    """
    if layout.axes[axis] != full_axis(CHANNELS, layout.base[CHANNELS]):
        return None
    batch, _, *sides = layout.base
    axes = (*layout.axes[:axis], full_axis(CHANNELS, channels), *layout.axes[axis + 1 :])
    return Layout((batch, channels, *sides), axes)

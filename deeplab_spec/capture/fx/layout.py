"""Layouts: the order of a value's elements, after reshapes and permutations.

A view, a permutation or a reshape moves the elements of a value and computes nothing. A layout states
which element is where. It has one normal form, so two sequences of calls that give the same order are
equal, and a sequence that restores the order is the identity.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from torch import Tensor, fx

from deeplab_spec.graph.ops import MAP_RANK

CHANNELS, HEIGHT, WIDTH = 1, 2, 3
"""The axes of a batch of maps after its images."""


@dataclass(frozen=True, slots=True)
class Atom:
    """A factor of one axis of the base: for a height in blocks of 4, the blocks, or the rows in a block.

    Attributes:
        axis: The axis of the base.
        step: Distance on that axis between neighbours along the atom.
        size: Number of positions; above 1.
    """

    axis: int
    step: int
    size: int


Axis = tuple[Atom, ...]
"""One axis of a value as a product of atoms, the slowest first; empty if it has one position."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A value as a reordering of the elements of a base.

    Attributes:
        base: Shape of the base.
        axes: The axes of the value; together they hold every atom of the base once.
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
        """Whether the value is a view of any base, so that writing to it writes to the base."""
        return all(len(axis) <= 1 for axis in self.axes)

    def permuted(self, order: Sequence[int]) -> "Layout":
        """Return the layout after a permutation of axes."""
        return replace(self, axes=tuple(self.axes[axis] for axis in order))

    def reshaped(self, shape: Sequence[int]) -> "Layout | None":
        """Return the layout after a reshape; None if a new axis would split an atom unevenly.

        >>> identity_layout((2, 6)).reshaped((2, 3, 2)).permuted((0, 2, 1)).reshaped((2, 6)).identity
        False
        """
        atoms = self._atoms()[::-1]
        axes: list[Axis] = []
        for size in shape:
            axis: list[Atom] = []
            left = size
            while left > 1 and atoms:
                atom = atoms.pop()
                outer = min(atom.size, left)
                if atom.size % outer or left % outer:
                    return None
                inner = atom.size // outer
                axis.append(Atom(atom.axis, atom.step * inner, outer))
                atoms += [Atom(atom.axis, atom.step, inner)] * (inner > 1)
                left //= outer
            if left != 1:
                return None
            axes.append(_normal(axis))
        return None if atoms else replace(self, axes=tuple(axes))

    def place(self, base: Tensor) -> Tensor:
        """Reorder the elements of a base as the value has them; a view of the base if one exists."""
        atoms, order = self._atoms(), self._base_order()
        pieces = base.reshape([atoms[number].size for number in order])
        return pieces.permute([order.index(number) for number in range(len(atoms))]).reshape(self.shape)

    def back(self, value: Tensor) -> Tensor:
        """Reorder the elements of a value as the base has them: the inverse of :meth:`place`."""
        return value.reshape([atom.size for atom in self._atoms()]).permute(self._base_order()).reshape(self.base)

    def _atoms(self) -> list[Atom]:
        return [atom for axis in self.axes for atom in axis]

    def _base_order(self) -> list[int]:
        """Return the positions of the atoms in the order in which the base has them."""
        atoms = self._atoms()
        return sorted(range(len(atoms)), key=lambda number: (atoms[number].axis, -atoms[number].step))


def full_axis(axis: int, size: int) -> Axis:
    """Return the axis of a value that is a whole axis of its base."""
    return (Atom(axis, 1, size),) if size > 1 else ()


def identity_layout(shape: Sequence[int]) -> Layout:
    """Return the layout of a value that is its own base."""
    return Layout(tuple(shape), tuple(full_axis(axis, size) for axis, size in enumerate(shape)))


def _normal(atoms: Sequence[Atom]) -> Axis:
    """Merge neighbouring atoms that are contiguous on the base, so that one order has one layout."""
    merged: list[Atom] = []
    for atom in atoms:
        last = merged[-1] if merged else None
        if last and last.axis == atom.axis and last.step == atom.step * atom.size:
            merged[-1] = Atom(atom.axis, atom.step, last.size * atom.size)
        else:
            merged.append(atom)
    return tuple(merged)


@dataclass(frozen=True, slots=True)
class Arguments:
    """Layouts of the arguments of a call.

    Attributes:
        value: Returns the layout of a value of the network; None for anything else.
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
    """Return the layout of the same maps with another number of channels.

    None if the axis holds something other than all channels of the base, which is a batch of maps.
    """
    if layout.axes[axis] != full_axis(CHANNELS, layout.base[CHANNELS]):
        return None
    batch, _, *sides = layout.base
    axes = (*layout.axes[:axis], full_axis(CHANNELS, channels), *layout.axes[axis + 1 :])
    return Layout((batch, channels, *sides), axes)

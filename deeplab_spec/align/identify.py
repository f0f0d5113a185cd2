"""Finds the published network and the choices that describe a candidate best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from deeplab_spec.align.differences import Aspect
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.search import NO_NETWORK, Library, Search
from deeplab_spec.spec.choices import NAMES, Choices, ChoiceValue, overrides_between

_FAR: Final = 32
"""The search skips a start whose distance is this many times the best distance so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The nearest network.

    Attributes:
        start: Name of the set of choices that the overrides are relative to.
        choices: The full set of choices.
        overrides: The choices that differ from the start.
        distance: Nodes, on both sides, without an equal node with equal inputs; 0 for equal networks.
        unexplained: Remaining differences, for each candidate.
    """

    start: str
    choices: Choices
    overrides: Mapping[str, ChoiceValue]
    distance: int
    unexplained: tuple[tuple[Aspect, ...], ...]


def identify(
    candidates: Sequence[Shaped], libraries: Sequence[Library], starts: Mapping[str, Choices]
) -> Identity | None:
    """Search the choices that describe a network.

    Args:
        candidates: The network in normal form, once for every output stride.
        libraries: The networks that choices describe, at the same output strides.
        starts: Full sets of choices by name; the search begins at the nearest.

    Returns:
        The network with the fewest differences; of these, one with the fewest overrides; of these, the one nearest
        to its start. None if no start is a network at every output stride.
    """
    search = Search(candidates, libraries)
    near = sorted(starts, key=lambda name: search.distance(starts[name]))
    near = [name for name in near if search.distance(starts[name]) < NO_NETWORK]
    if not near:
        return None
    nearest = starts[near[0]]
    for name in near:
        if search.distance(nearest) * _FAR < search.distance(starts[name]):
            continue  # too far from the candidate to do better
        nearest = min(nearest, search.descend(starts[name]), key=search.distance)
        if search.exact(nearest):
            break
    else:
        nearest = search.descend(nearest, detours=True)
    best: tuple[str, Choices] | None = None
    fewest = len(NAMES) + 1
    for name in near:
        fewer = search.simplified(starts[name], nearest, fewest)
        if fewer is not None:
            best, fewest = (name, fewer), len(overrides_between(starts[name], fewer))
        if fewest <= 1:
            break
    name, choices = best or (near[0], nearest)
    return Identity(
        start=name,
        choices=choices,
        overrides=overrides_between(starts[name], choices),
        distance=search.nodes_apart(choices),
        unexplained=search.unexplained(choices),
    )

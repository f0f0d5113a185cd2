"""Which published network, with which choices, a network is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from deeplab_spec.align.differences import Aspect
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.search import NO_NETWORK, Library, Search
from deeplab_spec.spec.choices import NAMES, Choices, ChoiceValue
from deeplab_spec.spec.choices import differences as decided_otherwise

_FAR: Final = 32
"""A start that leaves so many times more than what is found already is not searched from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The nearest network.

    Attributes:
        start: Name of the choices that the decisions are made on top of.
        choices: Every decision.
        overrides: The decisions that differ from the start.
        distance: Nodes, on both sides, without an equal one that reads equal ones; 0 if nothing
            tells the networks apart.
        unexplained: What differs all the same, at each place of comparison.
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
        candidates: The network in normal form, once for every place of comparison (an output stride).
        libraries: The networks of choices at the same places.
        starts: Full sets of choices, of which the nearest is taken, by name.

    Returns:
        The network with fewest differences, of these one with fewest decisions, of these the one
        nearest to its start. None if no start is a network at every place.
    """
    search = Search(candidates, libraries)
    near = sorted(starts, key=lambda name: search.distance(starts[name]))
    near = [name for name in near if search.distance(starts[name]) < NO_NETWORK]
    if not near:
        return None
    found = starts[near[0]]
    for name in near:
        if search.distance(found) * _FAR < search.distance(starts[name]):
            continue  # so little is left that it is not worth the way from there
        found = min(found, search.descend(starts[name]), key=search.distance)
        if search.exact(found):
            break
    else:
        found = search.descend(found, detours=True)
    best: tuple[str, Choices] | None = None
    fewest = len(NAMES) + 1
    for name in near:
        fewer = search.simplified(starts[name], found, fewest)
        if fewer is not None:
            best, fewest = (name, fewer), len(decided_otherwise(starts[name], fewer))
        if fewest <= 1:
            break
    name, choices = best or (near[0], found)
    return Identity(
        start=name,
        choices=choices,
        overrides=decided_otherwise(starts[name], choices),
        distance=search.nodes_apart(choices),
        unexplained=search.unexplained(choices),
    )

"""Finds the choices that describe a candidate best, and the choices that explain the differences of an alignment.

A choice explains a difference if it changes the same attribute in the specification's own graph.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

from deeplab_spec.align.differences import ABSENT, Aspect, differences
from deeplab_spec.align.match import Alignment
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.search import NO_NETWORK, Build, Library, Search
from deeplab_spec.errors import GraphError, SpecError
from deeplab_spec.graph.network import Network
from deeplab_spec.spec.choices import Choices, ChoiceValue, choose, names, overrides_between

Key = tuple[str, str | None, str]

Edit = tuple[str, str]
"""A path, and the change there: a field of its operation, ``inputs``, ``node`` (the node exists on one
side only), or ``after`` (a new node follows)."""

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
    candidates: Sequence[Shaped], libraries: Sequence[Library], starts: Mapping[str, Choices], *, of_head: bool = False
) -> Identity | None:
    """Return the network with the fewest differences; of these, with the fewest overrides; of these, the first start's.

    There are a candidate in normal form and a library for every output stride. The search begins at the nearest start.
    None if no start is a network at every output stride.
    """
    search = Search(candidates, libraries, of_head=of_head)
    near = sorted(starts, key=lambda name: search.distance(starts[name]))
    near = [name for name in near if search.distance(starts[name]) < NO_NETWORK]
    if not near:
        return None
    nearest = starts[near[0]]
    tried = set()
    for name in near:
        digests = search.digests(starts[name])
        if digests in tried or search.distance(nearest) * _FAR < search.distance(starts[name]):
            continue  # the same as before, or too far from the candidate to do better
        tried.add(digests)
        nearest = min(nearest, search.descend(starts[name]), key=search.distance)
        if search.exact(nearest):
            break
    else:
        nearest = search.descend(nearest, detours=True)
    best: tuple[str, Choices] | None = None
    fewest = len(names(type(nearest))) + 1
    for name in starts:
        if name not in near or type(starts[name]) is not type(nearest):
            continue  # of another family
        fewer = search.simplified(starts[name], nearest, fewest)
        if fewer is not None:
            best, fewest = (name, fewer), len(overrides_between(starts[name], fewer))
        if not fewest:
            break
    name, choices = best or (near[0], nearest)
    choices = _uncontradicted(search, starts[name], choices)
    return Identity(
        start=name,
        choices=choices,
        overrides=overrides_between(starts[name], choices),
        distance=search.nodes_apart(choices),
        unexplained=search.unexplained(choices),
    )


def _uncontradicted(search: Search, start: Choices, choices: Choices) -> Choices:
    """Remove the overrides that the candidate contradicts: most attributes that they change have another value there.

    A choice may reduce the distance by chance, as where one missing normalisation stands for another.
    """
    left = {(each.path, each.attribute) for found in search.unexplained(choices) for each in found}
    for name in overrides_between(start, choices) if left else ():
        without = choose(choices, {name: getattr(start, name)})
        changed = {edit for edit in _edits(search, without, choices) if edit[1] not in _OF_GRAPH}
        if changed and 2 * len(changed & left) >= len(changed) and search.prints(without):
            choices = without
    return choices


_OF_GRAPH: Final = frozenset({"node", "inputs", "after"})
"""Edits that are about which nodes there are, and not about their attributes."""


def _edits(search: Search, before: Choices, after: Choices) -> frozenset[Edit]:
    """Return the changes from the networks of some choices to those of others; none if either is no network."""
    try:
        pairs = [[library.build(choices).network for choices in (before, after)] for library in search.libraries]
    except (SpecError, GraphError):
        return frozenset()
    return frozenset().union(*(edits(first, second) for first, second in pairs))


def nearest_start(
    candidates: Sequence[Shaped], libraries: Sequence[Library], starts: Mapping[str, Choices]
) -> Identity:
    """Return the nearest of some networks without a search: what differs from it is not asked for.

    The arguments are those of :func:`identify`; there is at least one start.
    """
    search = Search(candidates, libraries)
    name = min(starts, key=lambda name: search.distance(starts[name]))
    apart = search.nodes_apart(starts[name])
    return Identity(start=name, choices=starts[name], overrides={}, distance=apart, unexplained=())


def key(difference: Aspect) -> Key:
    """Return the key of a difference."""
    return (difference.path, difference.candidate_path, difference.attribute)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The choices that turn the expected network into the candidate, as far as choices can.

    Attributes:
        overrides: Choices that differ from the starting choices.
        choice_of: The choice that explains each difference.
        unexplained: Differences that no choice explains.
    """

    overrides: Mapping[str, ChoiceValue]
    choice_of: Mapping[Key, str]
    unexplained: tuple[Aspect, ...]


def explain(choices: Choices, build: Build, alignment: Alignment) -> Explanation:
    """Find the choices that explain the differences of an alignment."""
    identity = identify([alignment.candidate], [Library(build)], {"": choices})
    if identity is None or not identity.overrides:
        return Explanation(overrides={}, choice_of={}, unexplained=differences(alignment))
    return Explanation(
        overrides=identity.overrides,
        choice_of=attribute(choices, build, alignment, identity.overrides),
        unexplained=identity.unexplained[0],
    )


def attribute(
    choices: Choices, build: Build, alignment: Alignment, overrides: Mapping[str, ChoiceValue]
) -> Mapping[Key, str]:
    """Return the choice that explains each difference; of several, the one that explains most."""
    aspects = differences(alignment)
    explained: dict[str, frozenset[Key]] = {}
    for name, value in overrides.items():
        try:
            changed = edits(alignment.expected.network, build(choose(choices, {name: value})).network)
        except (SpecError, GraphError):
            continue  # this value makes a network only together with others
        explained[name] = _explained(aspects, changed)
    choice_of: dict[Key, str] = {}
    while explained:
        name = max(explained, key=lambda name: len(explained[name] - set(choice_of)))
        choice_of |= dict.fromkeys(explained.pop(name) - set(choice_of), name)
    return choice_of


def _explained(aspects: tuple[Aspect, ...], changed: frozenset[Edit]) -> frozenset[Key]:
    return frozenset(
        key(difference)
        for difference in aspects
        if not changed.isdisjoint((difference.path, fact) for fact in _facts(difference))
    )


def _facts(difference: Aspect) -> tuple[str, ...]:
    """Return the edits of a node that appear as this difference at its path."""
    if difference.expected == ABSENT:
        return ("after", "inputs")
    return (difference.attribute, "node")


def edits(before: Network, after: Network) -> frozenset[Edit]:
    """Return the differences of two graphs in which equal paths mean the same node."""
    changes: set[Edit] = set()
    for node in before:
        if node.path not in after:
            changes.add((node.path, "node"))
            continue
        other = after[node.path]
        if node.inputs != other.inputs:
            changes.add((node.path, "inputs"))
        if type(node.op) is not type(other.op):
            changes.add((node.path, "node"))
        elif node.op != other.op:
            changed = (field.name for field in fields(node.op))
            changes |= {(node.path, name) for name in changed if getattr(node.op, name) != getattr(other.op, name)}
    for node in after:
        if node.path not in before:
            changes |= {(path, "after") for path in node.inputs} | {(node.path, "node")}
    return frozenset(changes)

"""Plants faults in graphs: the expected graph with one attribute wrong, for every clause of the structure.

A faulty graph is brought to normal form, aligned and compared like a candidate's. Faults near each other are planted
in one graph and distant ones in separate graphs, because an alignment searches everything between the first and the
last difference.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from deeplab_spec.align.counts import block_counts
from deeplab_spec.align.differences import aspects
from deeplab_spec.align.match import Alignment, align
from deeplab_spec.align.network_at_size import Shaped, shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.align.published import different_architecture
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, Add, Conv2d, Input, Opaque, Output, roles
from deeplab_spec.judge.evidence import PlantedFault
from deeplab_spec.judge.expected import Fact, Facts
from deeplab_spec.judge.structure.check import by_clause
from deeplab_spec.judge.structure.observe import Reading
from deeplab_spec.mutate.faults.nodes import planted_fault
from deeplab_spec.mutate.mutant import inserted

APART: Final = 60
"""Faults at least this many nodes apart are planted in separate graphs."""

PREFERRED: Final = ("eps", "kind", "align_corners", "affine", "bias", "rate", "kernel", "padding", "stride")
"""Attributes in which a fault is planted, in order of preference; other attributes come last."""

PLANTED: Final = "planted"
"""Path of an inserted operation."""

UNKNOWN: Final = Opaque(target="planted.unknown")

Edit = Callable[[Network], tuple[str, Network]]
"""Returns what is wrong with a faulty graph, in words, and that graph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    """A fault at a node, before it is planted."""

    clause: str  # must refuse it
    path: str
    position: int  # of the node in the graph
    edit: Edit


def of_graphs(expected: Shaped, reading: Reading, facts: Facts, unstrided: frozenset[str]) -> Iterator[PlantedFault]:
    """Plant a fault for every clause of the structure; the expected network has the form in which it is compared."""
    yield _of_other_network(expected)
    yield from _of_counts(reading.alignment, reading.shared)
    left = dict(facts)
    while left:
        faults = list(_faults(expected, left))
        planted = {fault.clause for fault in faults}
        left = {clause: each for clause, each in left.items() if clause not in planted} if planted else {}
        if not left:
            faults += _unknown(expected.network, {fault.path for fault in faults})
        for group in _groups(faults):
            yield from _planted(expected, group, unstrided)


def _planted(expected: Shaped, group: Sequence[_Fault], unstrided: frozenset[str]) -> Iterator[PlantedFault]:
    """Plant faults in one graph, and compare it."""
    network, words = expected.network, {}
    for fault in group:
        words[fault.clause], network = fault.edit(network)
    by_id = by_clause(aspects(_aligned(expected, network)), unstrided)
    for fault in group:
        plant = partial(replace, aspects=by_id)
        yield PlantedFault(clause=fault.clause, fault=words[fault.clause], path=fault.path, plant=plant)


def _aligned(expected: Shaped, network: Network) -> Alignment:
    """Align a faulty graph like a candidate's; its values are given the shapes of the expected ones."""
    shapes = dict(expected.shapes)
    if PLANTED in network:
        shapes[PLANTED] = shapes[network[PLANTED].inputs[0]]
    return align(expected, normal_form(Shaped(network=network.live(), shapes=shapes)))


def _faults(expected: Shaped, facts: Facts) -> Iterator[_Fault]:
    """Choose faults that fit into one graph, as late as possible; clauses with little choice come first."""
    network = expected.network
    readers = network.readers()
    positions = {node.path: number for number, node in enumerate(network)}
    taken: set[str] = set()
    for clause, own in sorted(facts.items(), key=lambda item: _room(item[1])):
        for fact in sorted(own, key=lambda fact: (_rank(fact.attribute), -positions[fact.node.path])):
            node, attribute = fact.node, fact.attribute
            around = {node.path, *node.inputs, *readers[node.path]}
            if attribute == "inputs":  # the fault reads one of these
                around.update(path for source in node.inputs for path in network[source].inputs)
            if clause == "DATAFLOW" and attribute == "inputs" and _like_another(network, node):
                continue
            if attribute == "stride" and expected.map_size(node.inputs[0]) == (1, 1):  # it has no effect there
                continue
            if not taken & around and planted_fault(network, node, attribute):
                taken |= around
                edit = _edit(node.path, attribute)
                yield _Fault(clause=clause, path=node.path, position=positions[node.path], edit=edit)
                break


def _like_another(network: Network, node: Node) -> bool:
    """Whether another node has the same input: at an input of the network, or at the start of a block."""
    read = node.inputs[0]
    summed = any(isinstance(network[path].op, Add) or ".skip." in path for path in network.readers()[read])
    return summed or isinstance(network[read].op, Add | Input)


def _room(own: tuple[Fact, ...]) -> tuple[bool, int]:
    """Return a sort key by how much choice there is: little without a preferred attribute."""
    return any(fact.attribute in PREFERRED for fact in own), len(own)


def _rank(attribute: str) -> int:
    return PREFERRED.index(attribute) if attribute in PREFERRED else len(PREFERRED) + (attribute == "node")


def _edit(path: str, attribute: str) -> Edit:
    return lambda network: planted_fault(network, network[path], attribute) or ("nothing", network)


def _unknown(network: Network, taken: Collection[str]) -> Iterator[_Fault]:
    """Insert an unknown operation after the last convolution with one reader and no fault near it."""
    readers = network.readers()
    for position, node in reversed(list(enumerate(network))):
        around = {node.path, *node.inputs, *readers[node.path]}
        if isinstance(node.op, Conv2d) and len(readers[node.path]) == 1 and not around & set(taken):
            edit = _insert(node.path)
            yield _Fault(clause="GRAPH-KNOWN", path=node.path, position=position, edit=edit)
            return


def _insert(path: str) -> Edit:
    return lambda network: (f"an unknown operation after {path}", inserted(network, path, UNKNOWN, PLANTED))


def _groups(faults: Iterable[_Fault]) -> list[list[_Fault]]:
    """Group faults that are near each other."""
    groups: list[list[_Fault]] = []
    for fault in sorted(faults, key=lambda fault: fault.position):
        if not groups or fault.position - groups[-1][-1].position > APART:
            groups.append([])
        groups[-1].append(fault)
    return groups


def _of_counts(alignment: Alignment, shared: frozenset[str]) -> Iterator[PlantedFault]:
    """Plant a node that shares its parameters with another node, beside the candidate's nodes that already do."""
    partner = alignment.partner
    stores = [node.path for node in alignment.expected.network if "weight" in roles(node.op) and node.path in partner]
    if stores:
        path = stores[-1]
        counts = block_counts(alignment, shared | {partner[path]})
        yield PlantedFault(
            clause="BLOCK-COUNTS",
            fault=f"parameters of {path} that another node stores",
            path=path,
            plant=partial(replace, counts=counts),
        )


def _of_other_network(expected: Shaped) -> PlantedFault:
    """Plant a network that consists of one activation."""
    source = expected.network.inputs[0]
    nodes = (
        source,
        Node(path=PLANTED, op=Activation(), inputs=(source.path,)),
        Node(path="output", op=Output(name=""), inputs=(PLANTED,)),
    )
    sizes = {source.path: expected.map_size(source.path) or (1, 1)}
    reason = different_architecture(align(expected, normal_form(shaped(Network(nodes=nodes), sizes)))) or ""
    return PlantedFault(
        clause="SAME-FAMILY",
        fault="a network of a single activation",
        plant=partial(replace, other_architecture=reason),
    )

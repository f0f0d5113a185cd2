"""Every wrong network with one fault that can be made of one network, made by rules and not picked by hand."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from deeplab_spec.analysis.intervals import never_negative
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.errors import GraphError
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Pair, Resize
from deeplab_spec.mutate.faults.blocks import of_blocks, of_layers
from deeplab_spec.mutate.faults.convolutions import of_convolution
from deeplab_spec.mutate.faults.joins import of_concatenation, of_pooling, of_resize, of_sum
from deeplab_spec.mutate.faults.norm_activation import (
    of_activation,
    of_dropout,
    of_norm,
    of_training,
    of_unactivated,
    of_unnormalised,
)
from deeplab_spec.mutate.faults.wiring import of_encoder, of_reader, of_skip, of_tap
from deeplab_spec.mutate.mutant import Mutant, Shows
from deeplab_spec.mutate.proofs import Maps, proof


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The mutants of one network.

    Attributes:
        mutants: The networks that can be run.
        unfit: Names of those whose shapes do not fit: nobody can run them, so nobody ships them.
    """

    mutants: tuple[Mutant, ...]
    unfit: tuple[str, ...]


def catalogue(graph: Network, image: Pair) -> Catalogue:
    """Make every mutant of a network.

    Args:
        graph: The network.
        image: Height and width at which sizes are compared: large enough for every rate to be seen.
    """
    maps = shapes(graph, image)
    positive = never_negative(graph)
    found: dict[str, Mutant] = {}
    unfit: list[str] = []
    for mutant in _all(graph, maps):
        if not _fits(mutant.network, image):
            unfit.append(mutant.name)
        elif mutant.name not in found:
            why = proof(graph, mutant, positive, maps)
            shows = Shows.NOWHERE if why else mutant.shows
            places = (*mutant.places, *_lost(graph, mutant.network))
            found[mutant.name] = replace(mutant, proof=why, shows=shows, places=places)
    return Catalogue(mutants=tuple(found.values()), unfit=tuple(unfit))


def _all(graph: Network, maps: Maps) -> Iterator[Mutant]:
    channels = {path: shape[0] for path, shape in maps.items()}
    for node in graph:
        yield from of_convolution(graph, node)
        yield from of_norm(graph, node)
        yield from of_unnormalised(graph, node)
        yield from of_activation(graph, node)
        yield from of_unactivated(graph, node)
        yield from of_dropout(graph, node)
        yield from of_sum(graph, node, channels)
        yield from of_concatenation(graph, node, channels)
        yield from of_pooling(graph, node)
        yield from of_resize(graph, node, maps)
        yield from of_reader(graph, node, maps)
        yield from of_skip(graph, node, maps)
        yield from of_training(graph, node)
    yield from of_blocks(graph)
    yield from of_layers(graph)
    yield from of_tap(graph, maps)
    yield from of_encoder(graph, maps)


def _lost(graph: Network, network: Network) -> tuple[str, ...]:
    """Return the nodes that no result depends on any more: they are missing, whatever else is wrong."""
    sizeless = (replace(node, inputs=node.inputs[:1]) if isinstance(node.op, Resize) else node for node in network)
    live = network.with_nodes(sizeless).live()
    return tuple(node.path for node in graph if node.path not in live)


def _fits(network: Network, image: Pair) -> bool:
    try:
        shapes(network, image)
    except GraphError:
        return False
    return True

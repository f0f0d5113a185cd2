"""All mutants of a network: every single fault that the rules of the catalogue make, none picked by hand.

A mutant that is provably the same function is marked with the proof. A proof is an algebraic rule about the graphs,
true for every weight and every image; without one, a mutant counts as a wrong network, however close its results are.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from deeplab_spec.analysis.intervals import never_negative
from deeplab_spec.analysis.sizes import shapes as shapes_at
from deeplab_spec.errors import GraphError, SpecError
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Activation, ActivationKind, Conv2d, Pair, Resize
from deeplab_spec.mutate.faults.nodes import node_faults, only_in_training
from deeplab_spec.mutate.faults.wiring import of_blocks, of_encoder, of_layers, of_reader, of_skip, of_tap
from deeplab_spec.mutate.mutant import Mutant, Shapes, Shows

_IDENTITY_FROM_ZERO: Final = frozenset({ActivationKind.RELU, ActivationKind.LEAKY_RELU, ActivationKind.ELU})


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The mutants of one network.

    Attributes:
        mutants: The mutants that can be executed.
        unfit: Names of those whose shapes do not fit, so that they cannot be executed.
    """

    mutants: tuple[Mutant, ...]
    unfit: tuple[str, ...]


def catalogue(graph: Network, image: Pair, kinds: Collection[str] = ()) -> Catalogue:
    """Make the mutants of a network.

    The image, for whose height and width sizes are compared, must be large enough for every rate to matter. All kinds
    of mutants are made, or only those that are named.
    """
    shapes = shapes_at(graph, image)
    positive = never_negative(graph)
    found: dict[str, Mutant] = {}
    unfit: list[str] = []
    for mutant in _all(graph, shapes):
        if kinds and mutant.kind not in kinds:
            continue
        if not _fits(mutant.network, image):
            unfit.append(mutant.name)
        elif mutant.name not in found:
            why = proof(graph, mutant, positive, shapes)
            shows = Shows.NOWHERE if why else mutant.shows
            other_paths = (*mutant.other_paths, *_dead(graph, mutant.network))
            found[mutant.name] = replace(mutant, proof=why, shows=shows, other_paths=other_paths)
    return Catalogue(mutants=tuple(found.values()), unfit=tuple(unfit))


def mutant_of(graph: Network, image: Pair, name: str) -> Mutant:
    """Return the mutant of a name, without a proof: the others are neither executed nor proven.

    Raises:
        SpecError: If there is none.
    """
    for mutant in _made(graph, image):
        if mutant.name == name and _fits(mutant.network, image):
            return mutant
    raise SpecError("mutant", "must be the name of a mutant", name)


@lru_cache(maxsize=1)
def _made(graph: Network, image: Pair) -> tuple[Mutant, ...]:
    return tuple(_all(graph, shapes_at(graph, image)))


def _all(graph: Network, shapes: Shapes) -> Iterator[Mutant]:
    for node in graph:
        yield from node_faults(graph, node, shapes)
        yield from of_reader(graph, node, shapes)
        yield from of_skip(graph, node, shapes)
        yield from only_in_training(graph, node)
    yield from of_blocks(graph)
    yield from of_layers(graph)
    yield from of_tap(graph, shapes)
    yield from of_encoder(graph, shapes)


def _dead(graph: Network, network: Network) -> tuple[str, ...]:
    """Return the nodes on which no result of a mutant depends: they count as missing too."""
    sizeless = (replace(node, inputs=node.inputs[:1]) if isinstance(node.op, Resize) else node for node in network)
    live = network.with_nodes(sizeless).live()
    return tuple(node.path for node in graph if node.path not in live)


def _fits(network: Network, image: Pair) -> bool:
    try:
        shapes_at(network, image)
    except GraphError:
        return False
    return True


def proof(graph: Network, mutant: Mutant, positive: frozenset[str], shapes: Shapes) -> str:
    """Return why a mutant is the same function as its network; empty if it is not.

    ``positive`` has the network's values that are never negative.
    """
    if mutant.proof:
        return mutant.proof
    if mutant.path not in graph:
        return ""
    before = graph[mutant.path]
    after = mutant.network[mutant.path].op if mutant.path in mutant.network else None
    pixel = bool(before.inputs) and shapes[before.inputs[0]][1:] == (1, 1)
    match before.op, after:
        case Conv2d() as own, Conv2d() as other if mutant.attribute in {"rate", "stride", "padding"}:
            return _of_convolution(own, other, shapes[before.inputs[0]])
        case Activation(), Activation(kind=kind) if mutant.attribute == "kind":
            kept = before.inputs[0] in positive and kind in _IDENTITY_FROM_ZERO
            return "both functions leave a value that is never negative as it is" if kept else ""
        case Activation(), None if mutant.kind == "activation lost" and before.inputs[0] in positive:
            return "a ReLU leaves a value that is never negative as it is"
        case Resize(), Resize() if mutant.attribute in {"mode", "align_corners"} and pixel:
            return "every resize of a single pixel repeats it"
        case Resize(), Resize() if (
            mutant.attribute == "inputs" and mutant.network[mutant.path].inputs[0] == before.inputs[0]
        ):
            return "of its second value a resize reads only the size, which is the same"
        case _:
            return _of_wiring(graph, mutant, positive)


def _of_convolution(own: Conv2d, other: Conv2d, input_shape: tuple[int, ...]) -> str:
    if own.pointwise and (own.stride, own.padding) == (other.stride, other.padding):
        return "a kernel of one tap has no distance between taps"
    if own.pointwise and input_shape[1:] == (1, 1) and own.padding == other.padding:
        return "a kernel of one tap has one position on a single pixel, whatever the stride"
    if other.padding == "same" and own.stride == (1, 1) and own.padding == _centred(own):
        return "at stride 1 the rule SAME gives the margins that centre an odd kernel"
    return ""


def _centred(op: Conv2d) -> tuple[int, int, int, int]:
    down, right = (rate * (taps - 1) // 2 for rate, taps in zip(op.rate, op.kernel, strict=True))
    return (down, down, right, right)


def _of_wiring(graph: Network, mutant: Mutant, positive: frozenset[str]) -> str:
    """Prove that another input is the same value, or that an added ReLU changes nothing."""
    added = [node for node in mutant.network if node.path not in graph]
    if [type(node.op) for node in added] == [Activation] and mutant.kind == "activation added":
        op = added[0].op
        kept = isinstance(op, Activation) and op.kind in _IDENTITY_FROM_ZERO and added[0].inputs[0] in positive
        return "a ReLU leaves a value that is never negative as it is" if kept else ""
    if mutant.attribute != "inputs" or added or mutant.path not in mutant.network:
        return ""
    own, other = graph[mutant.path].inputs, mutant.network[mutant.path].inputs
    if [_rectified(graph, path, positive) for path in own] == [_rectified(graph, path, positive) for path in other]:
        return "the two values differ by a ReLU of a value that is never negative"
    if _is_relu(graph, mutant.path) and _before_relu(graph, own[0]) == _before_relu(graph, other[0]):
        return "a ReLU of a ReLU is the one ReLU"
    return ""


def _is_relu(graph: Network, path: str) -> bool:
    op = graph[path].op
    return isinstance(op, Activation) and op.kind is ActivationKind.RELU


def _before_relu(graph: Network, path: str) -> str:
    """Return the input of a ReLU; any other value itself."""
    return graph[path].inputs[0] if _is_relu(graph, path) else path


def _rectified(graph: Network, path: str, positive: frozenset[str]) -> str:
    """Walk back over ReLUs that change nothing."""
    while _is_relu(graph, path) and graph[path].inputs[0] in positive:
        path = graph[path].inputs[0]
    return path

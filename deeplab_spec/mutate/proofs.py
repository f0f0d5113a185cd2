"""Proves by algebra, on the graphs alone, that a mutant is the same function after all.

Each rule is a statement about every weight and every image. What none of them proves is a wrong network,
however alike its results are.
"""

from collections.abc import Mapping

from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Activation, ActivationKind, Conv2d, Resize
from deeplab_spec.mutate.mutant import Mutant

_IDENTITY_FROM_ZERO = frozenset({ActivationKind.RELU, ActivationKind.LEAKY_RELU, ActivationKind.ELU})

Maps = Mapping[str, tuple[int, ...]]


def proof(graph: Network, mutant: Mutant, positive: frozenset[str], maps: Maps) -> str:
    """Return why a mutant is the same function as the network it was made from; empty if it is not.

    Args:
        graph: The network.
        mutant: The mutant.
        positive: Paths of the network's values that are never negative.
        maps: Channels, height and width of the network's values at some image's size.
    """
    if mutant.proof:
        return mutant.proof
    if mutant.path not in graph:
        return ""
    before, after = graph[mutant.path], _after(mutant)
    match before.op, after:
        case Conv2d() as mine, Conv2d() as yours if mutant.attribute in {"rate", "stride", "padding"}:
            return _of_convolution(mine, yours, maps[before.inputs[0]])
        case Activation(), Activation(kind=kind) if mutant.attribute == "kind":
            kept = before.inputs[0] in positive and kind in _IDENTITY_FROM_ZERO
            return "both functions leave a value that is never negative as it is" if kept else ""
        case Activation(), None if mutant.kind == "activation lost" and before.inputs[0] in positive:
            return "a ReLU leaves a value that is never negative as it is"
        case Resize(), Resize() if mutant.attribute in {"mode", "align_corners"} and maps[before.inputs[0]][1:] == (
            1,
            1,
        ):
            return "every resize of a single pixel repeats it"
        case Resize(), Resize() if (
            mutant.attribute == "inputs" and mutant.network[mutant.path].inputs[0] == before.inputs[0]
        ):
            return "of its second value a resize reads only the size, which is the same"
        case _:
            return _of_wiring(graph, mutant, positive)


def _after(mutant: Mutant) -> object:
    return mutant.network[mutant.path].op if mutant.path in mutant.network else None


def _of_convolution(mine: Conv2d, yours: Conv2d, arriving: tuple[int, ...]) -> str:
    if mine.pointwise and (mine.stride, mine.padding) == (yours.stride, yours.padding):
        return "a kernel of one tap has no distance between taps"
    if mine.pointwise and arriving[1:] == (1, 1) and mine.padding == yours.padding:
        return "a kernel of one tap has one position on a single pixel, whatever the stride"
    if yours.padding == "same" and mine.stride == (1, 1) and mine.padding == _centred(mine):
        return "at stride 1 the rule SAME gives the margins that centre an odd kernel"
    return ""


def _centred(op: Conv2d) -> tuple[int, int, int, int]:
    down, right = (rate * (taps - 1) // 2 for rate, taps in zip(op.rate, op.kernel, strict=True))
    return (down, down, right, right)


def _of_wiring(graph: Network, mutant: Mutant, positive: frozenset[str]) -> str:
    """Prove that another value is the same value, or that an added ReLU changes none."""
    added = [node for node in mutant.network if node.path not in graph]
    if [type(node.op) for node in added] == [Activation] and mutant.kind == "activation added":
        op = added[0].op
        kept = isinstance(op, Activation) and op.kind in _IDENTITY_FROM_ZERO and added[0].inputs[0] in positive
        return "a ReLU leaves a value that is never negative as it is" if kept else ""
    if mutant.attribute != "inputs" or added or mutant.path not in mutant.network:
        return ""
    mine, yours = graph[mutant.path].inputs, mutant.network[mutant.path].inputs
    if [_rectified(graph, path, positive) for path in mine] == [_rectified(graph, path, positive) for path in yours]:
        return "the two values differ by a ReLU of a value that is never negative"
    if _is_relu(graph, mutant.path) and _before_relu(graph, mine[0]) == _before_relu(graph, yours[0]):
        return "a ReLU of a ReLU is the one ReLU"
    return ""


def _is_relu(graph: Network, path: str) -> bool:
    op = graph[path].op
    return isinstance(op, Activation) and op.kind is ActivationKind.RELU


def _before_relu(graph: Network, path: str) -> str:
    """Return the value that a value is a ReLU of; itself if it is none."""
    return graph[path].inputs[0] if _is_relu(graph, path) else path


def _rectified(graph: Network, path: str, positive: frozenset[str]) -> str:
    """Return the value that a value is a ReLU of, where the ReLU changes nothing; else itself."""
    while _is_relu(graph, path) and graph[path].inputs[0] in positive:
        path = graph[path].inputs[0]
    return path

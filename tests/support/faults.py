"""Single faults of a network, for tests of what finds them: a selection of the mutants."""

from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Add, BatchNorm, Pair
from deeplab_spec.mutate.catalogue import catalogue
from deeplab_spec.mutate.mutant import Mutant, Shows
from tests.support.graphs import TELLING

KINDS = frozenset(
    {
        "bias",
        "3x3 kernel",
        "1x1 kernel",
        "rate doubled",
        "padding shifted",
        "stride",
        "eps a tenth",
        "activation lost",
        "activation added",
        "ReLU6",
        "leaky ReLU",
        "corners not aligned",
        "bicubic",
        "tap at",
        "skip reads",
        "block lost",
        "block twice",
    }
)
"""Kinds of faults of every attribute and of every connection."""

TAPS = frozenset({"block1.add", "block2.sepconv1.pointwise.norm"})
"""Details of the wrong taps that are tried; a tap at an operand of a sum has two descriptions."""


def faults(graph: Network, image: Pair = TELLING) -> tuple[Mutant, ...]:
    """Return the mutants of these kinds that show in evaluation.

    Args:
        graph: The network.
        image: Height and width for which sizes are compared.
    """
    mutants = catalogue(graph, image, KINDS).mutants
    return tuple(mutant for mutant in mutants if mutant.shows is Shows.EVALUATION and _tried(graph, mutant))


def _tried(graph: Network, mutant: Mutant) -> bool:
    match mutant.kind:
        case "tap at":
            return mutant.detail in TAPS
        case "activation added":
            return isinstance(graph[mutant.path].op, Add | BatchNorm)
        case _:
            return True

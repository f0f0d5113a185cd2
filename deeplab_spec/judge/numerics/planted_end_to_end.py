"""Plants faults in results: near the end of the network, so that only the last nodes run again.

A stand-in module returns the faulty results. It is called, and its results are compared, like a candidate.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn

from deeplab_spec.execute.interpreter import Values, step
from deeplab_spec.graph.folding import foldable
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, BatchNorm, Conv2d, Output, Resize
from deeplab_spec.judge.deviation import Deviation
from deeplab_spec.judge.evidence import Evidence
from deeplab_spec.judge.planted import PlantedFault
from deeplab_spec.mutate.faults.operators import planted_node

FAULTS: Final = ((Resize, "align_corners"), (BatchNorm, "eps"), (Activation, "slope"))
"""Operators and attributes with a planted fault near the end."""

LARGE: Final = 2**15
"""A convolution with more weights than this does not run again."""

SCALE: Final = 1.0001
"""Factor on a result: the smallest fault found in a published network."""

EXACT: Final = "VALUES-END-TO-END"
"""The clause that must refuse a result with this factor."""

Compare = Callable[[nn.Module], tuple[Deviation, ...]]
"""Calls a stand-in, and compares its results."""

Plant = Callable[[Evidence, tuple[Deviation, ...]], Evidence]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultyEnd:
    """The last nodes of a network, the first of them faulty.

    Attributes:
        words: What is wrong.
        tap: Name of the result that shows it.
        nodes: The nodes in order: the faulty one first, the output last.
    """

    words: str
    tap: str
    nodes: tuple[Node, ...]

    @property
    def needs(self) -> frozenset[str]:
        """Paths of the values from outside that the nodes take."""
        inside = {node.path for node in self.nodes}
        return frozenset(path for node in self.nodes for path in node.inputs) - inside

    def result(self, values: Values, weights: Mapping[str, Tensor]) -> Tensor:
        """Run the nodes on values of the specified network."""
        results = {path: values[path] for path in self.needs}
        for node in self.nodes:
            results[node.path] = step(node, [results[path] for path in node.inputs], weights)
        return results[self.nodes[-1].path]


class FixedResults(nn.Module):
    """Returns the same results for every input.

    Args:
        results: Tensors by tap.
    """

    def __init__(self, results: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.results = dict(results)

    def forward(self, *_inputs: Tensor) -> dict[str, Tensor]:
        """Return the results."""
        return self.results


def faulty_ends(network: Network) -> tuple[FaultyEnd, ...]:
    """Return the ends of a network with a fault, for every output."""
    return tuple(end for node in network.outputs for end in _faulty_ends(network, node))


def _faulty_ends(network: Network, output: Node) -> Iterator[FaultyEnd]:
    """Walk back from an output while each node has one input and little computation repeats."""
    after: tuple[Node, ...] = ()
    node = output
    left = list(FAULTS)
    while True:
        for kind, attribute in left:
            fault = planted_node(node, attribute) if isinstance(node.op, kind) else None
            if fault and isinstance(output.op, Output):
                left.remove((kind, attribute))
                words, faulty = fault
                yield FaultyEnd(words=words, tap=output.op.name, nodes=(faulty, *after))
                break
        after = (node, *after)
        if not node.inputs or (len(node.inputs) > 1 and not isinstance(node.op, Resize)) or _large(node):
            return
        node = network[node.inputs[0]]


def _large(node: Node) -> bool:
    op = node.op
    if not isinstance(op, Conv2d):
        return False
    return op.channels_out * op.channels_in // op.groups * op.kernel[0] * op.kernel[1] > LARGE


def needed(network: Network, planted: Collection[FaultyEnd], *, fold: bool) -> frozenset[str]:
    """Return the paths of the values from which faulty ends start.

    Args:
        network: The network, with its normalisations.
        planted: The ends, of the network in the form in which it is compared.
        fold: Whether normalisations are folded there: a convolution then has the value of its normalisation.
    """
    paths = frozenset(path for end in planted for path in end.needs)
    norms = (norm for conv, norm in foldable(network) if conv in paths) if fold else ()
    return paths | frozenset(norms)


def of_ends(
    clause: str,
    planted: Collection[FaultyEnd],
    expected: Mapping[str, Tensor],
    values: Values,
    weights: Mapping[str, Tensor],
    compare: Compare,
    plant: Plant,
) -> Iterator[PlantedFault]:
    """Plant faults in the results of a run; without a faulty end, multiply the results.

    Args:
        clause: The clause that must refuse them.
        planted: Faulty ends of the network.
        expected: The specified results by tap.
        values: Values of the specified network.
        weights: Weights of the specified network.
        compare: Calls a stand-in like the candidate, and compares its results.
        plant: Replaces the deviations of the candidate by those of the stand-in.
    """
    faulty = [(end.words, end.tap, end.result(values, weights)) for end in planted]
    if clause == EXACT or not planted:
        faulty += [(f"{tap} times {SCALE}", tap, value * SCALE) for tap, value in expected.items()]
    for words, tap, value in faulty:
        deviations = compare(FixedResults({**expected, tap: value}))
        yield PlantedFault(clause=clause, fault=words, plant=_planted(plant, deviations))


def _planted(plant: Plant, seen: tuple[Deviation, ...]) -> Callable[[Evidence], Evidence]:
    return lambda evidence: plant(evidence, seen)

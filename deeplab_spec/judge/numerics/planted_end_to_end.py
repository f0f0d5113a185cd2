"""Plants faults in results: near the end of the network, so that only what follows runs again.

A stand-in returns the results with the fault; it is asked, and its results are compared, as a candidate's.
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
"""What is wrong near the end, of which operation."""

LARGE: Final = 2**15
"""So many weights of a convolution are too many to run it again."""

SCALE: Final = 1.0001
"""Factor on a result: the smallest fault that was seen in a network that somebody published."""

EXACT: Final = "VALUES-END-TO-END"
"""The clause that sees a result that is off by no more than that."""

Compare = Callable[[nn.Module], tuple[Deviation, ...]]
"""Asks a stand-in, and compares its results."""

Plant = Callable[[Evidence, tuple[Deviation, ...]], Evidence]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The end of a network, its first node wrong.

    Attributes:
        words: What is wrong.
        tap: The result that shows it.
        nodes: The nodes that run again, in order: the wrong one first, the output last.
    """

    words: str
    tap: str
    nodes: tuple[Node, ...]

    @property
    def needs(self) -> frozenset[str]:
        """Paths of the values that it starts from."""
        mine = {node.path for node in self.nodes}
        return frozenset(path for node in self.nodes for path in node.inputs) - mine

    def result(self, values: Values, weights: Mapping[str, Tensor]) -> Tensor:
        """Run it on values of the right network."""
        found = {path: values[path] for path in self.needs}
        for node in self.nodes:
            found[node.path] = step(node, [found[path] for path in node.inputs], weights)
        return found[self.nodes[-1].path]


class Held(nn.Module):
    """Returns given results, whatever it is asked.

    Args:
        results: Tensors by tap.
    """

    def __init__(self, results: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.results = dict(results)

    def forward(self, *_inputs: Tensor) -> dict[str, Tensor]:
        """Return the results."""
        return self.results


def tails(network: Network) -> tuple[Tail, ...]:
    """Return the ends of a network with a fault, of every output."""
    return tuple(tail for node in network.outputs for tail in _tails(network, node))


def _tails(network: Network, output: Node) -> Iterator[Tail]:
    """Walk back from an output as far as one value is all that a node reads, and little is computed again."""
    after: tuple[Node, ...] = ()
    node = output
    left = list(FAULTS)
    while True:
        for kind, attribute in left:
            fault = planted_node(node, attribute) if isinstance(node.op, kind) else None
            if fault and isinstance(output.op, Output):
                left.remove((kind, attribute))
                words, faulty = fault
                yield Tail(words=words, tap=output.op.name, nodes=(faulty, *after))
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


def needed(network: Network, planted: Collection[Tail], *, fold: bool) -> frozenset[str]:
    """Return the values of a network that ends with a fault start from.

    Args:
        network: The network as it is drawn for.
        planted: The ends, of the network as it is compared.
        fold: Whether it is compared with its normalisations folded: then the value of a convolution is that
            of the normalisation that it had.
    """
    wanted = frozenset(path for tail in planted for path in tail.needs)
    norms = (norm for conv, norm in foldable(network) if conv in wanted) if fold else ()
    return wanted | frozenset(norms)


def of_ends(
    clause: str,
    planted: Collection[Tail],
    right: Mapping[str, Tensor],
    values: Values,
    weights: Mapping[str, Tensor],
    compare: Compare,
    plant: Plant,
) -> Iterator[PlantedFault]:
    """Plant faults in the results of a run; where there is no end to plant one in, a factor.

    Args:
        clause: The clause that must refuse them.
        planted: Ends of the network with a fault.
        right: The right results by tap.
        values: Values of the right network.
        weights: Its weights.
        compare: Asks a stand-in as the candidate is asked, and compares its results.
        plant: Puts what was found in the place of what was found of the candidate.
    """
    wrong = [(tail.words, tail.tap, tail.result(values, weights)) for tail in planted]
    if clause == EXACT or not planted:
        wrong += [(f"{tap} times {SCALE}", tap, value * SCALE) for tap, value in right.items()]
    for words, tap, value in wrong:
        seen = compare(Held({**right, tap: value}))
        yield PlantedFault(clause=clause, fault=words, plant=_planted(plant, seen))


def _planted(plant: Plant, seen: tuple[Deviation, ...]) -> Callable[[Evidence], Evidence]:
    return lambda evidence: plant(evidence, seen)

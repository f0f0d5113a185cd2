"""Orders the nodes of a network independently of how the network was written.

Nodes are listed backwards from the output. Where paths join, the nodes that only one path needs form a branch;
branches are ordered by size, the longest first, after the nodes that they share. So a skip follows the main path,
whichever was computed first.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Output

Branch = tuple[str, ...]
"""The paths of a branch, in order."""

Arrange = Callable[[Node, list[Branch]], list[Branch]]
"""Orders the branches of a node with several inputs."""


def by_length(_: Node, branches: list[Branch]) -> list[Branch]:
    """Put the longest branch first; branches of equal length keep their order."""
    return sorted(branches, key=len, reverse=True)


class Ancestors:
    """What each node of a network depends on, itself included, as integers: bit n stands for node n."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.position = {node.path: number for number, node in enumerate(network)}
        self.masks: list[int] = []
        for number, node in enumerate(network):
            self.masks.append(1 << number | self.of(node.inputs))

    def of(self, paths: Iterable[str]) -> int:
        """Return what some values depend on, themselves included."""
        return reduce(or_, (self.masks[self.position[path]] for path in paths), 0)

    def before(self, path: str, later: str) -> bool:
        """Tell whether a value depends on an earlier one, or is the same."""
        return bool(self.of([later]) >> self.position[path] & 1)

    def nodes(self, mask: int) -> Iterator[Node]:
        """Yield the nodes of a set, in order."""
        return (node for number, node in enumerate(self.network) if mask >> number & 1)


def ordered(network: Network, arrange: Arrange = by_length) -> tuple[Node, ...]:
    """Return the nodes in an order that follows from the graph alone.

    An output must depend on every node.
    """
    outputs = sorted((node for node in network if isinstance(node.op, Output)), key=_name)
    everything = (1 << len(network)) - 1
    walker = _Walker(network, Ancestors(network), arrange)
    return tuple(network[path] for path in walker.walk(everything, [node.path for node in outputs], None))


def _name(node: Node) -> str:
    return node.op.name if isinstance(node.op, Output) else ""


@dataclass(frozen=True, slots=True)
class _Walker:
    network: Network
    ancestors: Ancestors
    arrange: Arrange

    def walk(self, within: int, ends: Sequence[str], joint: Node | None) -> list[str]:
        """Return the nodes of a set, whose last nodes are the ends, in order."""
        backwards: list[str] = []
        while ends:
            if len(ends) > 1:
                branches, within = self._branches(within, ends)
                lists = [tuple(self.walk(branch, [end], None)) for end, branch in branches if branch]
                for branch_paths in reversed(self.arrange(joint, lists) if joint else lists):
                    backwards += reversed(branch_paths)
                ends, joint = self._ends(within), None
                continue
            joint = self.network[ends[0]]
            backwards.append(joint.path)
            within &= ~(1 << self.ancestors.position[joint.path])
            inputs = [path for path in dict.fromkeys(joint.inputs) if within >> self.ancestors.position[path] & 1]
            ends = inputs or self._ends(within)
        return backwards[::-1]

    def _branches(self, within: int, ends: Sequence[str]) -> tuple[list[tuple[str, int]], int]:
        """Split a set into the nodes that each end needs alone, and the nodes that at least two ends need."""
        needs = [self.ancestors.of([end]) & within for end in ends]
        branches = []
        shared = within
        for number, (end, need) in enumerate(zip(ends, needs, strict=True)):
            alone = need
            for other, others in enumerate(needs):
                if other != number:
                    alone &= ~others
            branches.append((end, alone))
            shared &= ~alone
        return branches, shared

    def _ends(self, within: int) -> list[str]:
        """Return the nodes of a set that no other node of the set reads."""
        ends = []
        rest = within
        while rest:
            last = rest.bit_length() - 1
            ends.append(self.network.nodes[last].path)
            rest &= ~self.ancestors.masks[last]
        return ends

"""An order of a network's nodes that does not depend on how it was written down.

Nodes are listed backwards from the output. Where paths join, what only one of them needs stands
together, as a branch; the branches stand in the order of their sizes, the longest first, and
before them what they share. So a skip follows the main path, whichever was computed first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Output

Branch = tuple[str, ...]
"""The paths of a branch, in order."""

Arrange = Callable[[Node, list[Branch]], list[Branch]]
"""Puts the branches of a joining node in order."""


def by_length(_: Node, branches: list[Branch]) -> list[Branch]:
    """Put the longest branch first; equals stay as they are."""
    return sorted(branches, key=len, reverse=True)


@dataclass(frozen=True, slots=True)
class _Masks:
    """Sets of nodes as bits of whole numbers: the n-th bit is the n-th node."""

    ancestors: list[int]
    position: dict[str, int]


def _masks(network: Network) -> _Masks:
    position = {node.path: number for number, node in enumerate(network)}
    ancestors: list[int] = []
    for number, node in enumerate(network):
        mask = 1 << number
        for path in node.inputs:
            mask |= ancestors[position[path]]
        ancestors.append(mask)
    return _Masks(ancestors, position)


def ordered(network: Network, arrange: Arrange = by_length) -> tuple[Node, ...]:
    """Return the nodes in an order that follows from the graph alone.

    Args:
        network: The graph; every node is needed by an output.
        arrange: Puts the branches of a joining node in order.
    """
    masks = _masks(network)
    outputs = sorted((node for node in network if isinstance(node.op, Output)), key=_name)
    everything = (1 << len(network)) - 1
    walker = _Walker(network, masks, arrange)
    return tuple(network[path] for path in walker.walk(everything, [node.path for node in outputs], None))


def _name(node: Node) -> str:
    return node.op.name if isinstance(node.op, Output) else ""


@dataclass(frozen=True, slots=True)
class _Walker:
    network: Network
    masks: _Masks
    arrange: Arrange

    def walk(self, within: int, ends: Sequence[str], joint: Node | None) -> list[str]:
        """List the nodes of a set, which has the given ends, in order."""
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
            within &= ~(1 << self.masks.position[joint.path])
            inputs = [path for path in dict.fromkeys(joint.inputs) if within >> self.masks.position[path] & 1]
            ends = inputs or self._ends(within)
        return backwards[::-1]

    def _branches(self, within: int, ends: Sequence[str]) -> tuple[list[tuple[str, int]], int]:
        """Split a set into what each end needs alone, and what at least two of them need."""
        needs = [self.masks.ancestors[self.masks.position[end]] & within for end in ends]
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
        """Return the nodes of a set that nothing else in it reads."""
        ends = []
        rest = within
        while rest:
            last = rest.bit_length() - 1
            ends.append(self.network.nodes[last].path)
            rest &= ~self.masks.ancestors[last]
        return ends

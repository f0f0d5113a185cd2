"""Gives the nodes of a network the paths of the specification.

An aligned node has its partner's path. A node without one, and one that the normal form takes out,
stands in the block of the node before it, under its own path: ``aspp.atrous1.head.convs.1.dropout``.
"""

from collections.abc import Mapping
from dataclasses import replace

from deeplab_spec.align.match import Alignment
from deeplab_spec.analysis.costs import block_of
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Input, Output


def specified_paths(alignment: Alignment, network: Network) -> dict[str, str]:
    """Return the path in the specification of every node of a candidate.

    Args:
        alignment: The candidate, in normal form, beside the specification.
        network: The candidate as it was captured.
    """
    partner = {right: left for left, right in alignment.partner.items()}
    paths: dict[str, str] = {}
    readers = network.readers()
    for node in network:
        if node.path in partner:
            paths[node.path] = partner[node.path]
        elif isinstance(node.op, Input | Output):
            paths[node.path] = f"{'input' if isinstance(node.op, Input) else 'output'}.{node.path}"
        else:
            paths[node.path] = f"{_block(node.path, network, readers, partner)}.{node.path}"
    return paths


def _block(path: str, network: Network, readers: Mapping[str, tuple[str, ...]], partner: Mapping[str, str]) -> str:
    """Return the block of the nearest aligned node before a node, or after it."""
    before: tuple[str, ...] = network[path].inputs
    while before:
        known = next((name for name in before if name in partner), None)
        if known is not None and not isinstance(network[known].op, Input):
            return block_of(partner[known])
        before = tuple(name for later in before for name in network[later].inputs)
    after = readers[path]
    while after:
        known = next((name for name in after if name in partner), None)
        if known is not None:
            return block_of(partner[known])
        after = tuple(name for earlier in after for name in readers[earlier])
    return "unknown"


def renamed(network: Network, paths: Mapping[str, str]) -> Network:
    """Return a network whose nodes have other paths.

    Raises:
        GraphError: If two nodes would have one path.
    """
    nodes = (
        replace(node, path=paths[node.path], inputs=tuple(paths[path] for path in node.inputs)) for node in network
    )
    return Network(nodes=tuple(nodes), taps=tuple((name, paths[path]) for name, path in network.taps))

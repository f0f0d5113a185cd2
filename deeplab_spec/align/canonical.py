"""Names and orders the nodes of a network independently of how the network was written.

In a network of the family, a node has the specification's path. A node that the specification does not have is
named after its operator, in its block: ``aspp.projection.extra.conv2``. In any other network, joints (sums and
concatenations) and convolutions are counted: ``part3.unit2.norm`` follows the second convolution after the second
joint. So an added or missing layer changes few other names.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from deeplab_spec.align.match import Alignment
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.order import ordered
from deeplab_spec.analysis.costs import block_of
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Add, Concat, Conv2d, Input, Multiply, Output, kind

_WORDS: Final = {"Conv2d": "conv", "BatchNorm": "norm", "GlobalAveragePool": "mean"}


def canonical(shaped: Shaped, alignment: Alignment | None = None) -> Shaped:
    """Return a network in canonical order, under canonical names, without the sources of its nodes.

    ``alignment`` is that of the specification with the network, if they are of the same family.
    """
    paths = canonical_paths(shaped.network, alignment)
    nodes = (replace(node, source=None) for node in ordered(shaped.network))
    network = Network(nodes=tuple(nodes), taps=tuple(sorted(shaped.network.taps)))
    return Shaped(
        network=renamed(network, paths),
        shapes={path: tuple(shaped.shapes[old]) for old, path in paths.items()},
        likes={paths[path]: paths[like] for path, like in shaped.likes.items() if path in paths and like in paths},
        times={paths[path]: times for path, times in shaped.times.items() if path in paths},
    )


def digest(shaped: Shaped) -> str:
    """Return the SHA-256 of a network under canonical names: of its operators and what each reads, at any size."""
    nodes = [[node.path, kind(node.op), asdict(node.op), node.inputs] for node in shaped.network]
    text = json.dumps([nodes, sorted(shaped.times.items())], sort_keys=True)
    return sha256(text.encode()).hexdigest()


def canonical_paths(network: Network, alignment: Alignment | None = None) -> dict[str, str]:
    """Return the canonical name of every node by its path, in the order of :func:`ordered`.

    ``alignment`` is as in :func:`canonical`. An output depends on every node.
    """
    nodes = ordered(network)
    return _counted_names(nodes) if alignment is None else _specified_names(nodes, alignment, network)


def _specified_names(nodes: tuple[Node, ...], alignment: Alignment, network: Network) -> dict[str, str]:
    aligned = set(alignment.partner.values())
    specified = specified_paths(alignment, network)
    seen: Counter[str] = Counter()
    paths: dict[str, str] = {}
    for node in nodes:
        if node.path in aligned:
            paths[node.path] = specified[node.path]
        else:
            block = specified[node.path].removesuffix(f".{node.path}")
            paths[node.path] = _numbered(f"{block}.extra.{_word(node)}", seen)
    return paths


def _counted_names(nodes: tuple[Node, ...]) -> dict[str, str]:
    seen: Counter[str] = Counter()
    units: dict[str, str] = {}
    paths: dict[str, str] = {}
    part, convs = 1, 0
    for node in nodes:
        word = _word(node)
        if isinstance(node.op, Input | Output):
            paths[node.path] = _numbered(word, seen)
            units[node.path] = f"part{part}.{word}"
            continue
        if isinstance(node.op, Add | Multiply | Concat):
            part, convs = part + 1, 0
            unit = f"part{part}.joint"
        elif isinstance(node.op, Conv2d) or not node.inputs:
            convs += 1
            unit = f"part{part}.unit{convs}"
        else:
            unit = units[node.inputs[0]]
        units[node.path] = unit
        paths[node.path] = _numbered(f"{unit}.{word}", seen)
    return paths


def _numbered(name: str, seen: "Counter[str]") -> str:
    """Return a name; the second and later nodes of one name get a number."""
    seen[name] += 1
    return name if seen[name] == 1 else f"{name}{seen[name]}"


def _word(node: Node) -> str:
    return _WORDS.get(kind(node.op), kind(node.op).lower())


def specified_paths(
    alignment: Alignment, network: Network, again: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """Return the path in the specification of every node of a candidate.

    An aligned node has its partner's path. A node without one, and one that the normal form removes, stands in the
    block of the nearest aligned node, under its own path: ``aspp.atrous1.head.convs.1.dropout``.

    ``again`` has the nodes that compute a value again, each with the node that computes it first, in whose block it
    stands.
    """
    partner = alignment.expected_of
    paths: dict[str, str] = {}
    readers = network.readers()
    for node in network:
        if node.path in partner:
            paths[node.path] = partner[node.path]
        elif isinstance(node.op, Input | Output):
            paths[node.path] = f"{'input' if isinstance(node.op, Input) else 'output'}.{node.path}"
        elif again.get(node.path) in partner:
            paths[node.path] = f"{block_of(partner[again[node.path]])}.{node.path}"
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

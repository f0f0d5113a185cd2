"""Which node to blame where an error has spread: the first that differs in the direction of the spread."""

from collections.abc import Collection

from deeplab_spec.graph.network import Network


def first_before(network: Network, wrong: Collection[str]) -> dict[str, str]:
    """Return, for every wrong node, the first wrong one that its value comes from; itself if there is none.

    An error of a value spreads to what reads it.
    """
    return _first(wrong, [(node.path, node.inputs) for node in network])


def first_behind(network: Network, wrong: Collection[str]) -> dict[str, str]:
    """Return, for every wrong node, the last wrong one that its value goes to; itself if there is none.

    An error of a gradient spreads to what was read.
    """
    readers = network.readers()
    return _first(wrong, [(node.path, readers[node.path]) for node in reversed(network.nodes)])


def _first(wrong: Collection[str], order: list[tuple[str, tuple[str, ...]]]) -> dict[str, str]:
    """Follow errors along an order in which every node stands behind those that it follows."""
    position = {path: number for number, (path, _) in enumerate(order)}
    blamed: dict[str, str] = {}
    found: dict[str, str] = {}
    for path, before in order:
        reached = [blamed[other] for other in before if other in blamed]
        if path in wrong:
            reached.append(path)
            found[path] = min(reached, key=position.__getitem__)
        if reached:
            blamed[path] = min(reached, key=position.__getitem__)
    return found

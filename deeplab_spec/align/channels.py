"""In which order a candidate holds the channels of a value.

A concatenation in another order is the same function once the weights that read it are permuted
too. ``order[i]`` is the specification's channel that stands at place ``i`` in the candidate.
"""

from collections.abc import Mapping

from deeplab_spec.align.match import Alignment
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Concat, Conv2d

Order = tuple[int, ...]


def channel_orders(alignment: Alignment, candidate: Network) -> Mapping[str, Order]:
    """Return the order of channels of every value that is not in the specification's order.

    Args:
        alignment: The two networks in normal form.
        candidate: The candidate as it was captured, with the nodes that its normal form lacks.
    """
    expected_of = {right: left for left, right in alignment.partner.items()}
    orders: dict[str, Order] = {}
    for node in candidate:
        order = _order(node, orders, expected_of, alignment)
        if order is not None and order != tuple(range(len(order))):
            orders[node.path] = order
    return orders


def _order(
    node: Node, orders: Mapping[str, Order], expected_of: Mapping[str, str], alignment: Alignment
) -> Order | None:
    match node.op:
        case Concat():
            return _joined(node, orders, expected_of, alignment)
        case Conv2d() as op if not op.depthwise:
            return None
        case _:
            return orders.get(node.inputs[0]) if node.inputs else None


def _joined(
    node: Node, orders: Mapping[str, Order], expected_of: Mapping[str, str], alignment: Alignment
) -> Order | None:
    if node.path not in expected_of:
        return None
    expected = alignment.expected
    starts: dict[str, int] = {}
    start = 0
    for path in expected.network[expected_of[node.path]].inputs:
        starts[path] = start
        start += expected.channels(path)
    joined: list[int] = []
    for path in alignment.candidate.network[node.path].inputs:
        source = expected_of.get(path)
        if source not in starts:
            return None
        width = expected.channels(source)
        joined += [starts[source] + channel for channel in orders.get(path, range(width))]
    return tuple(joined) if len(joined) == start else None

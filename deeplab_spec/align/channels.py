"""The order of the channels of each value of a candidate.

A concatenation in another order is the same function if the weights that read it are permuted too.
``order[i]`` is the specification's channel at position ``i`` of the candidate's value.
"""

from collections.abc import Mapping

from deeplab_spec.align.match import Alignment
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Concat, Conv2d

Order = tuple[int, ...]


def channel_orders(alignment: Alignment, candidate: Network) -> Mapping[str, Order]:
    """Return the order of the channels of every value that is not in the specification's order.

    Args:
        alignment: The two networks in normal form.
        candidate: The candidate as it was captured, with the nodes that its normal form does not have.
    """
    expected_of = alignment.expected_of
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
            return _concatenated(node, orders, expected_of, alignment)
        case Conv2d() as op if not op.depthwise:
            return None
        case _:
            return orders.get(node.inputs[0]) if node.inputs else None


def _concatenated(
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
    order: list[int] = []
    for path in alignment.candidate.network[node.path].inputs:
        source = expected_of.get(path)
        if source not in starts:
            return None
        width = expected.channels(source)
        order += [starts[source] + channel for channel in orders.get(path, range(width))]
    return tuple(order) if len(order) == start else None

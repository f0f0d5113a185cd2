"""Aligns two networks: pairs their nodes by structure, never by name; and says how channels are ordered.

Both networks are put in an order that follows from their graphs, and the two sequences are aligned at the lowest
cost. Where three or more branches join, the candidate's branches are first put in the order of the expected
branches that they resemble most.

A concatenation in another order is the same function if the weights that read it are permuted too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations
from typing import Final

from deeplab_spec.align.cost import IMPOSSIBLE, Signature, gap, signature, substitution
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.order import Branch, by_length, ordered
from deeplab_spec.analysis.costs import block_of
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Concat, Conv2d

Pairs = tuple[tuple[str | None, str | None], ...]
"""Pairs of paths, expected first; None where a node has no partner."""

_MANY: Final = 3
"""From this number on, branches are not identified by their lengths alone."""

_MOST: Final = 6
"""Up to this number of branches, every order is tried."""

_CONTEXT: Final = 48
"""Nodes on each side of a difference that are aligned again: more than the longest block has."""

_INSIDE_A_BLOCK: Final = 1
"""Extra cost of a gap that opens inside a block, so that whole blocks are missing or extra."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Two networks in normal form whose nodes are paired.

    Attributes:
        expected: The expected network.
        candidate: The network under test.
        pairs: Pairs of paths, expected first.
        price: Cost of the alignment; 0 if no node differs.
    """

    expected: Shaped
    candidate: Shaped
    pairs: Pairs
    price: int

    @property
    def partner(self) -> dict[str, str]:
        """Path in the candidate by expected path, for nodes with a partner."""
        return {left: right for left, right in self.pairs if left is not None and right is not None}

    @property
    def expected_of(self) -> dict[str, str]:
        """Expected path by path in the candidate, for nodes with a partner."""
        return {right: left for left, right in self.partner.items()}

    @property
    def missing(self) -> tuple[str, ...]:
        """Expected paths without a partner in the candidate."""
        return tuple(left for left, right in self.pairs if left is not None and right is None)

    @property
    def extra(self) -> tuple[str, ...]:
        """Paths of the candidate without an expected partner."""
        return tuple(right for left, right in self.pairs if left is None and right is not None)


def align(expected: Shaped, candidate: Shaped) -> Alignment:
    """Align two networks in normal form."""
    joints: list[list[Branch]] = []

    def note(_: Node, branches: list[Branch]) -> list[Branch]:
        arranged = by_length(_, branches)
        if len(arranged) >= _MANY:
            joints.append(arranged)
        return arranged

    def arrange(node: Node, branches: list[Branch]) -> list[Branch]:
        if len(branches) < _MANY or not joints:
            return by_length(node, branches)
        choices = [_like(expected, joint, candidate, branches) for joint in joints]
        return min(choices, key=lambda choice: choice[0])[1]

    left = ordered(expected.network, note)
    right = ordered(candidate.network, arrange)
    pairs, price = _align_sequences(expected, left, candidate, right)
    return _with_moved(Alignment(expected=expected, candidate=candidate, pairs=pairs, price=price))


def align_through(expected: Shaped, nearest: Shaped, candidate: Shaped) -> Alignment:
    """Align two networks by way of a third that the candidate resembles more, whose paths mean the same nodes.

    Nodes that the nearest network shares with the expected one are paired first, then what is left between them.
    """
    through = align(nearest, candidate)
    kinds = {node.path: type(node.op) for node in expected.network}
    partner = {
        left: right for left, right in through.partner.items() if kinds.get(left) is type(candidate.network[right].op)
    }
    back = {right: left for left, right in through.partner.items()}
    taken, blocks = set(partner.values()), {block_of(path) for path in kinds if path not in partner}
    beside: dict[str, list[Node]] = {}
    after: dict[str | None, list[str]] = {}
    last: str | None = None
    for right in (right for _, right in through.pairs if right is not None):
        block = block_of(back.get(right, ""))
        if right in taken:
            last = right
        elif block in blocks:
            beside.setdefault(block, []).append(candidate.network[right])
        else:
            after.setdefault(last, []).append(right)
    pairs: list[tuple[str | None, str | None]] = [(None, right) for right in after.pop(None, [])]
    price = len(pairs)
    order = ordered(expected.network, by_length)
    for node in order:
        block = block_of(node.path)
        if node.path in partner:
            right = partner[node.path]
            pairs += [(node.path, right), *((None, each) for each in after.pop(right, []))]
        elif block in blocks:
            blocks.remove(block)
            left = [each for each in order if each.path not in partner and block_of(each.path) == block]
            between, cost = _align_sequences(expected, left, candidate, beside.pop(block, []))
            pairs += between
            price += cost
    return Alignment(expected=expected, candidate=candidate, pairs=tuple(pairs), price=max(price, 1))


def _with_moved(alignment: Alignment) -> Alignment:
    """Pair equal nodes that read the same, but stand elsewhere in the order because something else reads them."""
    expected, candidate = alignment.expected, alignment.candidate
    partner, extra = alignment.partner, [candidate.network[path] for path in alignment.extra]
    moved: dict[str, str] = {}
    for node in (expected.network[path] for path in alignment.missing if extra):
        read = tuple(map(partner.get, node.inputs))
        like = signature(expected, node)
        for other in extra:
            if read == other.inputs and like == signature(candidate, other):
                partner[node.path] = moved[node.path] = other.path
                extra.remove(other)
                break
    taken = {(None, path) for path in moved.values()}
    pairs = tuple((left, moved.get(left or "", right)) for left, right in alignment.pairs if (left, right) not in taken)
    return replace(alignment, pairs=pairs) if moved else alignment


def _like(
    expected: Shaped, joint: Sequence[Branch], candidate: Shaped, branches: Sequence[Branch]
) -> tuple[int, list[Branch]]:
    """Order branches like those of a joint; return the cost and the order."""
    if max(len(joint), len(branches)) > _MOST:
        return IMPOSSIBLE, sorted(branches, key=len, reverse=True)

    @cache
    def price(left: Branch, right: Branch) -> int:
        return _align_sequences(expected, _nodes(expected, left), candidate, _nodes(candidate, right))[1]

    slots = [*joint, *[()] * (len(branches) - len(joint))]
    best, order = IMPOSSIBLE, list(branches)
    for places in permutations(range(len(slots)), len(branches)):
        unused = set(range(len(slots))) - set(places)
        total = sum(price(slots[place], branch) for place, branch in zip(places, branches, strict=True))
        total += sum(price(slots[place], ()) for place in unused)
        if total < best:
            best = total
            order = [branch for _, branch in sorted(zip(places, branches, strict=True), key=lambda item: item[0])]
    return best, order


def _nodes(shaped: Shaped, branch: Branch) -> tuple[Node, ...]:
    return tuple(shaped.network[path] for path in branch)


def _align_sequences(
    expected: Shaped, left: Sequence[Node], candidate: Shaped, right: Sequence[Node]
) -> tuple[Pairs, int]:
    """Align two sequences; only the surroundings of differences are searched."""
    numbers: dict[Signature, int] = {}
    lefts = [numbers.setdefault(signature(expected, node), len(numbers)) for node in left]
    rights = [numbers.setdefault(signature(candidate, node), len(numbers)) for node in right]
    shortest = min(len(lefts), len(rights))
    start = next((i for i in range(shortest) if lefts[i] != rights[i]), shortest)
    if start == len(lefts) == len(rights):
        return tuple((a.path, b.path) for a, b in zip(left, right, strict=True)), 0
    start = _back_to_block_start(left, start)
    end = next((i for i in range(shortest - start) if lefts[-1 - i] != rights[-1 - i]), shortest - start)
    end = _back_to_block_start(left[::-1], end)
    middle, price = _search(
        left[start : len(left) - end],
        right[start : len(right) - end],
        _Prices(tuple(numbers), lefts[start : len(lefts) - end], rights[start : len(rights) - end]),
    )
    before = ((a.path, b.path) for a, b in zip(left[:start], right[:start], strict=True))
    after = ((a.path, b.path) for a, b in zip(left[len(left) - end :], right[len(right) - end :], strict=True))
    return (*before, *middle, *after), price


def _back_to_block_start(nodes: Sequence[Node], position: int) -> int:
    """Return an earlier position that leaves enough context and is the start of a block."""
    position = max(0, position - _CONTEXT)
    while 0 < position < len(nodes) and block_or_stem(nodes[position - 1].path) == block_or_stem(nodes[position].path):
        position -= 1
    return position


class _Prices:
    """The costs of pairing two positions."""

    def __init__(self, signatures: Sequence[Signature], left: Sequence[int], right: Sequence[int]) -> None:
        self.signatures = signatures
        self.left = left
        self.right = right
        self.known: dict[int, dict[int, int]] = {}

    def row(self, position: int) -> list[int]:
        """Return the costs of pairing one expected node with every node of the candidate."""
        number = self.left[position]
        row = self.known.setdefault(number, {})
        for other in self.right:
            if other not in row:
                row[other] = substitution(self.signatures[number], self.signatures[other])
        return [row[other] for other in self.right]


def block_or_stem(path: str) -> str:
    """Return the block of a path; the whole stem is one block here."""
    parts = path.split(".")
    long = parts[0] == "backbone" and not parts[1].startswith("block")
    return ".".join(parts[:3] if long else parts[:2])


def _search(left: Sequence[Node], right: Sequence[Node], prices: _Prices) -> tuple[Pairs, int]:
    """Find the alignment of lowest cost; a gap costs more if it opens inside a block."""
    rows, columns = len(left), len(right)
    gaps_left = [gap(node) for node in left]
    gaps_right = [gap(node) for node in right]
    blocks = [block_or_stem(node.path) for node in left]
    opening = [_INSIDE_A_BLOCK * (0 < i < rows and blocks[i - 1] == blocks[i]) for i in range(rows + 1)]
    # Three states: the last step paired two nodes (0), left one out (1), or put one in (2).
    far = IMPOSSIBLE
    best = [[0, *[far] * columns], [far] * (columns + 1), [far] * (columns + 1)]
    for j in range(1, columns + 1):
        best[2][j] = min(best[2][j - 1], best[0][j - 1] + opening[0]) + gaps_right[j - 1]
    trace: list[list[tuple[int, int, int]]] = [_traces(best, opening[0])]
    for i in range(1, rows + 1):
        row = prices.row(i - 1)
        now = [[far] * (columns + 1) for _ in range(3)]
        paired, without, within = best
        steps = []
        gap_left, open_here, open_before = gaps_left[i - 1], opening[i], opening[i - 1]
        for j in range(columns + 1):
            up = (paired[j] + open_before, without[j], within[j] + open_before)
            now[1][j] = min(up) + gap_left
            from_paired = from_within = 0
            if j:
                diagonal = (paired[j - 1], without[j - 1], within[j - 1])
                now[0][j] = min(diagonal) + row[j - 1]
                from_paired = diagonal.index(min(diagonal))
                back = (now[0][j - 1] + open_here, now[1][j - 1] + open_here, now[2][j - 1])
                now[2][j] = min(back) + gaps_right[j - 1]
                from_within = back.index(min(back))
            steps.append((from_paired, up.index(min(up)), from_within))
        trace.append(steps)
        best = now
    return _walk_back(left, right, trace, [state[columns] for state in best])


def _traces(best: list[list[int]], opening: int) -> list[tuple[int, int, int]]:
    """Return the steps of the first row, which can only insert nodes."""
    before = zip(best[0][:-1], best[2][:-1], strict=True)
    return [(0, 0, 0), *((0, 0, 0 if paired + opening <= within else 2) for paired, within in before)]


def _walk_back(
    left: Sequence[Node], right: Sequence[Node], trace: list[list[tuple[int, int, int]]], ends: list[int]
) -> tuple[Pairs, int]:
    i, j, state = len(left), len(right), ends.index(min(ends))
    pairs: list[tuple[str | None, str | None]] = []
    while i or j:
        came_from = trace[i][j][state]
        if state == 0:
            i, j = i - 1, j - 1
            pairs.append((left[i].path, right[j].path))
        elif state == 1:
            i -= 1
            pairs.append((left[i].path, None))
        else:
            j -= 1
            pairs.append((None, right[j].path))
        state = came_from
    return tuple(pairs[::-1]), min(ends)


Order = tuple[int, ...]
"""``order[i]`` is the specification's channel at position ``i`` of the candidate's value."""


def channel_orders(alignment: Alignment, candidate: Network) -> Mapping[str, Order]:
    """Return the order of the channels of every value that is not in the specification's order.

    The candidate is given as it was captured, with the nodes that its normal form does not have.
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

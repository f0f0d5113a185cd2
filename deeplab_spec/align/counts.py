"""Parameters and multiply-adds of every block, on both sides of an alignment.

A block whose operations or input shapes differ has other costs for that reason, and the difference itself is
reported. What remains are costs that no operation shows: parameters that two nodes share are stored once, and a value
that is computed twice costs twice.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from deeplab_spec.align.differences import Aspect, Origins, compare, differences
from deeplab_spec.align.match import Alignment
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.analysis.conventions import multiply_adds
from deeplab_spec.analysis.costs import block_of, evaluate
from deeplab_spec.analysis.terms import Mode, Surroundings, stored
from deeplab_spec.graph.network import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """The parameters or multiply-adds of a block, as specified and of the candidate."""

    attribute: str
    expected: int
    actual: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCounts:
    """The counts of one block on both sides.

    Attributes:
        path: The specification's block.
        parameters: Parameters of the whole block.
        multiply_adds: Multiply-adds of the whole block, for one image.
        nodes: Counts of the block's aligned nodes.
        comparable: Whether operations and inputs are as specified, so that the counts must be equal.
    """

    path: str
    parameters: Count
    multiply_adds: Count
    nodes: tuple[Aspect, ...]
    comparable: bool


PARAMETERS = "parameters"
MULTIPLY_ADDS = "multiply-adds"


def block_counts(alignment: Alignment, shared: Collection[str] = ()) -> tuple[BlockCounts, ...]:
    """Count every block that stores or computes something in the specification or in the candidate.

    ``shared`` has the paths of the candidate's nodes whose parameters are those of an earlier node.
    """
    expected = dict(node_counts(alignment.expected))
    actual = {
        path: (0 if path in shared else parameters, operations)
        for path, (parameters, operations) in node_counts(alignment.candidate)
    }
    partner, network = alignment.partner, alignment.expected.network
    origins = Origins(alignment)
    blocks: dict[str, tuple[list[str], list[str]]] = {}
    for path in expected:
        blocks.setdefault(block_of(path), ([], []))[0].append(path)
    for path in actual:
        anchor = origins.expected_of.get(path) or origins.anchor(alignment.candidate.network[path])
        blocks.setdefault(block_of(anchor), ([], []))[1].append(path)
    differing = {block_of(aspect.path) for aspect in differences(alignment)}
    counts = []
    for block, (expected_paths, actual_paths) in blocks.items():
        parameters, operations = (
            Count(
                attribute=attribute,
                expected=sum(expected[path][number] for path in expected_paths),
                actual=sum(actual[path][number] for path in actual_paths),
            )
            for number, attribute in enumerate((PARAMETERS, MULTIPLY_ADDS))
        )
        if not (parameters.expected or parameters.actual):
            continue
        nodes = tuple(
            aspect
            for path in expected_paths
            if path in partner and partner[path] in actual
            for aspect in _of_node(network[path], partner[path], expected[path], actual[partner[path]])
        )
        comparable = block not in differing and all(_same_inputs(alignment, path) for path in expected_paths)
        counts.append(
            BlockCounts(path=block, parameters=parameters, multiply_adds=operations, nodes=nodes, comparable=comparable)
        )
    return tuple(counts)


def node_counts(shaped: Shaped) -> Iterator[tuple[str, tuple[int, int]]]:
    """Return the parameters and the multiply-adds of every node, by path."""
    around = Surroundings(shaped.network, {path: shaped.channels(path) for path in shaped.shapes})
    for node in shaped.network:
        known = bool(shaped.shapes[node.path])
        operations = evaluate(multiply_adds(node, around, Mode.FORWARD), shaped.shapes) if known else 0
        yield node.path, (stored(node.op).parameters, operations * shaped.times.get(node.path, 1))


def _of_node(node: Node, candidate: str, expected: tuple[int, int], actual: tuple[int, int]) -> Iterator[Aspect]:
    for attribute, left, right in zip((PARAMETERS, MULTIPLY_ADDS), expected, actual, strict=True):
        if left or right:
            yield compare(node, candidate, attribute, (left, right))


def _same_inputs(alignment: Alignment, path: str) -> bool:
    """Tell whether the inputs of a node have the specified shapes."""
    partner = alignment.partner
    return all(
        value in partner and alignment.expected.shapes[value] == alignment.candidate.shapes[partner[value]]
        for value in alignment.expected.network[path].inputs
    )

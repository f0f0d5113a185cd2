"""The expected number of decisions of every clause, counted from the plan and the expected graph alone.

A check counts the decisions that it made. If it made fewer than expected, it skipped some, and the clause does not
pass.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Final

from deeplab_spec.analysis.costs import block_of
from deeplab_spec.graph.folding import foldable, folded
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, BatchNorm, Conv2d, Dropout, Input, Op, Opaque, Output, Resize, roles
from deeplab_spec.judge.certificate import Subject
from deeplab_spec.judge.plan import Limits, Plan, SpecifiedPlan, plan
from deeplab_spec.judge.request import Request
from deeplab_spec.judge.structure.check import clause_of
from deeplab_spec.spec.clauses import Level

BATCHES: Final = 5
"""The number of batch sizes that a candidate is called with if it accepts any."""

WAYS: Final = 9
"""Calls with other ranges of values, in other layouts and modes."""

ILLEGAL: Final = 2
"""The number of inputs that a candidate must reject: one of a wrong rank, one with wrong channels."""

_ATTRIBUTES: Final[Mapping[type, tuple[str, ...]]] = {
    Conv2d: ("kernel", "stride", "rate", "padding", "groups", "channels_out", "bias"),
    BatchNorm: ("eps", "affine"),
    Resize: ("mode", "align_corners", "size"),
    Opaque: (),
    Output: (),
}
"""The compared attributes of an operation; for operations not named here, every field of the record."""

_PART_OF: Final = {
    "backbone": "BACKBONE",
    "output.backbone": "BACKBONE",
    "output.low_level": "BACKBONE",
    "aspp": "ASPP",
    "output.aspp": "ASPP",
    "decoder": "DECODER",
    "auxiliary": "DECODER",
    "output": "DECODER",
}
"""The part of a node, by its path or the first name of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One fact of the expected graph that a candidate must share.

    Attributes:
        node: The node.
        attribute: The attribute: ``node``, ``inputs``, or a field of the record.
    """

    node: Node
    attribute: str


Facts = Mapping[str, tuple[Fact, ...]]
"""The facts by the clause of the structure that decides them."""


def facts(network: Network, unstrided: frozenset[str]) -> Facts:
    """Return every fact of an expected graph in normal form, by the clause that decides it.

    Some blocks, given by their paths, lose their stride at this output stride.
    """
    found: dict[str, list[Fact]] = {}
    for node in network:
        for attribute in ("node", *_attributes(node.op), *(("inputs",) if node.inputs else ())):
            clause = clause_of(node.path, node.op, attribute, unstrided)
            found.setdefault(clause, []).append(Fact(node=node, attribute=attribute))
    return {clause: tuple(mine) for clause, mine in found.items()}


def _attributes(op: Op) -> tuple[str, ...]:
    return _ATTRIBUTES[type(op)] if type(op) in _ATTRIBUTES else tuple(field.name for field in fields(op))


def plan_of(request: Request, subject: Subject) -> SpecifiedPlan:
    """Plan again what was judged at one output stride."""
    limits = Limits(sides=subject.sides, batch=subject.batch, channels=subject.channels)
    return plan(request, subject.output_stride, limits)


def of_subject(plan: Plan, subject: Subject) -> dict[str, int]:
    """Return the expected decisions about what was judged at one output stride, by clause."""
    levels, counts = plan.request.levels, dict[str, int]()
    executed = folded(plan.network, subject.norms)
    if subject.image:
        compared = plan.expected(subject.image).network
        compared = folded(compared, None if subject.folded else subject.norms)
        if Level.STRUCTURE in levels:
            counts |= of_structure(compared, facts(compared, plan.unstrided))
        if Level.NUMERICS in levels:
            counts |= of_numerics(compared, executed) | of_lower(compared, len(plan.request.lower))
    elif subject.whole_runs:
        counts |= of_numerics(plan.network, plan.network)
    if subject.calls:
        counts |= of_interface(plan, *subject.calls)
    convs = {conv for conv, norm in foldable(plan.network) if norm in subject.norms}
    return counts | (of_training(executed, convs) if subject.trained else {})


def of_structure(network: Network, found: Facts) -> dict[str, int]:
    """Return the expected decisions of the clauses of the structure, for a graph in the form in which it is compared.

    Each clause has one decision for every fact, and one more: that there is no extra node. Parameters and multiply-adds
    are decided for every block that has weights.
    """
    blocks = {block_of(node.path) for node in network if "weight" in roles(node.op)}
    counts = {clause: len(mine) + 1 for clause, mine in found.items()}
    return {"GRAPH-KNOWN": 1, "SAME-FAMILY": 1, **counts, "BLOCK-COUNTS": 2 * len(blocks)}


def of_numerics(network: Network, parameters: Network) -> dict[str, int]:
    """Return the expected decisions of the clauses of the numerics.

    Args:
        network: The expected graph, in the form in which it is compared.
        parameters: The expected graph as it is executed.
    """
    outputs = len(network.outputs)
    counts = {
        "WEIGHTS-FIT": sum(len(roles(node.op)) for node in parameters),
        "VALUES-END-TO-END": outputs,
        "VALUES-FLOAT32": outputs,
    }
    for node in network:
        if node.inputs and (part := part_of(node.path)):
            counts[f"VALUES-{part}"] = counts.get(f"VALUES-{part}", 0) + 1
    return counts


def of_lower(network: Network, precisions: int) -> dict[str, int]:
    """Return the expected decisions about so many lower precisions, for a graph in the form in which it is compared."""
    readers = network.readers()
    leaving = [
        node
        for node in network
        if not isinstance(node.op, Input | Output)
        and any(block_of(reader) != block_of(node.path) for reader in readers[node.path])
    ]
    counts = {
        "BLOCKS": len(leaving),
        "NORMS": sum(isinstance(node.op, BatchNorm) for node in network),
        "ACTIVATIONS": sum(isinstance(node.op, Activation) for node in network),
        "END-TO-END": len(network.outputs),
    }
    return {f"VALUES-LOWER-PRECISION-{clause}": precisions * count for clause, count in counts.items()}


def of_training(network: Network, folded: Collection[str] = ()) -> dict[str, int]:
    """Return the least number of decisions of the clauses of training, for a graph as it is executed.

    The weights of its convolutions that hold a normalisation (``folded``) are not drawn.
    """
    norms = [node.op for node in network if isinstance(node.op, BatchNorm)]
    convs = sum(isinstance(node.op, Conv2d) and node.path not in folded for node in network)
    parameters = sum(role in {"weight", "bias"} for node in network for role in roles(node.op))
    return {
        "BN-MOMENTUM": 2 * len(norms),
        "RUNNING-STATISTICS": 2 * len(norms),
        "DROPOUT": 1 + sum(isinstance(node.op, Dropout) for node in network),
        "INITIALISATION": convs + sum(len(roles(op)) for op in norms),
        "GRADIENT-REACHES": parameters,
        "TRAIN-STEP": parameters,
        "BATCH-OF-ONE": 1,
    }


def part_of(path: str) -> str | None:
    """Return the part that a node belongs to; None for a node of no part.

    >>> part_of("aspp.pool.conv"), part_of("output.low_level"), part_of("output.resize"), part_of("input")
    ('ASPP', 'BACKBONE', 'DECODER', None)
    """
    return _PART_OF.get(path) or _PART_OF.get(path.split(".", maxsplit=1)[0])


def of_interface(plan: Plan, further: int = 0, exact: int = 0) -> dict[str, int]:
    """Return the expected decisions of the clauses of the interface.

    Args:
        plan: The plan of the calls.
        further: The calls of a module beside these: after many calls, and of its copies.
        exact: The calls whose values are compared in float64.
    """
    batches = 1 if plan.limits.batch else BATCHES
    legal = len(plan.sizes) + batches + WAYS + further
    return {
        **dict.fromkeys(("OUTPUT-TENSOR", "OUTPUT-SHAPE", "OUTPUT-DTYPE", "OUTPUT-FINITE"), legal),
        "SIZES-ACCEPTED": len(plan.sizes),
        "BATCHES-ACCEPTED": batches,
        **dict.fromkeys(("LAYOUTS-ACCEPTED", "DETERMINISM", "BATCH-INDEPENDENCE", "STATE-UNCHANGED"), 1),
        "INPUT-UNCHANGED": len(plan.network.inputs),
        "BAD-INPUT-REFUSED": ILLEGAL,
        "VALUES-EVERY-CALL": legal + exact,
    }

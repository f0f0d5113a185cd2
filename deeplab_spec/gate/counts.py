"""What can be gated without a clock: whether two sides are one network, and what they cost exactly."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from deeplab_spec.align.differences import differences
from deeplab_spec.align.match import align
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.analysis.conventions import FULL
from deeplab_spec.analysis.costs import node_costs, total_cost
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.gate.networks import digest
from deeplab_spec.gate.rule import GateVerdict
from deeplab_spec.graph.ops import Input, Output

_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one side costs, for one image, exactly.

    Attributes:
        parameters: Parameters.
        flops: Floating point operations, every operation of every operator.
        bytes: Bytes read and written, in float32.
        ops: Operations of the graph.
        uncounted: Operations of the graph that no formula knows; they count no flops and no bytes.
        digest: SHA-256 of the graph's normal form.
    """

    parameters: int
    flops: int
    bytes: int
    ops: int
    uncounted: int
    digest: str


GATED: Final = ("parameters", "flops", "bytes", "ops")


@dataclass(frozen=True, slots=True, kw_only=True)
class CountVerdict:
    """Both sides' counts, and what the gate says of them.

    Attributes:
        base: Counts of base.
        head: Counts of head.
        increases: The relative increase of each count that grew, by name.
        differences: In what the networks differ, one line each; empty if they are the same network.
        verdict: FAIL if a count grew by more than the margin.
    """

    base: Counts
    head: Counts
    increases: Mapping[str, float]
    differences: tuple[str, ...]
    verdict: GateVerdict


def counts(shaped: Shaped, mode: Mode) -> Counts:
    """Count one side."""
    costs = node_costs(shaped.network, shaped.shapes, FULL, mode)
    total = total_cost(costs)
    return Counts(
        parameters=total.sizes.parameters,
        flops=total.flops,
        bytes=total.bytes_read + total.bytes_written,
        ops=sum(not isinstance(node.op, Input | Output) for node in shaped.network),
        uncounted=sum(total.skipped.values()),
        digest=digest(shaped),
    )


def judge_counts(base: Shaped, head: Shaped, mode: Mode, margin: float) -> CountVerdict:
    """Compare both sides' graphs and counts.

    Args:
        base: The graph of base.
        head: The graph of head.
        mode: Whether a forward pass or a training step is counted.
        margin: The relative increase of a count that fails.
    """
    before, after = counts(base, mode), counts(head, mode)
    increases = {}
    for name in GATED:
        old, new = getattr(before, name), getattr(after, name)
        if new > old:
            increases[name] = (new - old) / old if old else float(new)
    return CountVerdict(
        base=before,
        head=after,
        increases=increases,
        differences=() if before.digest == after.digest else _differences(base, head),
        verdict=GateVerdict.FAIL if any(value > margin for value in increases.values()) else GateVerdict.PASS,
    )


def _differences(base: Shaped, head: Shaped) -> tuple[str, ...]:
    found = differences(align(normal_form(base), normal_form(head)))
    lines = [
        f"{aspect.path}: {aspect.attribute} is {aspect.actual} in head, {aspect.expected} in base"
        for aspect in found[:_SHOWN]
    ]
    more = len(found) - len(lines)
    return (*lines, f"and {more} more differences") if more > 0 else tuple(lines)

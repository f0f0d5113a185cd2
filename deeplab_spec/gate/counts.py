"""What the gate compares without a clock: whether both sides are one network, and its exact costs."""

import hashlib
import json
from contextlib import ExitStack
from dataclasses import fields
from typing import Any, Final, get_args

from pydantic import TypeAdapter

from deeplab_spec.align.differences import differences
from deeplab_spec.align.match import align
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.align.order import ordered
from deeplab_spec.analysis.conventions import FULL
from deeplab_spec.analysis.costs import node_costs, total_cost
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.errors import TargetError
from deeplab_spec.gate.cases import Case
from deeplab_spec.gate.document import CountsModel, CountVerdictModel, GateVerdict
from deeplab_spec.gate.request import Settings
from deeplab_spec.gate.sides import PACKAGES, Facts, Side, SideProcess, job_of
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Input, Op, Output, kind

_COUNTS: Final = ("parameters", "flops", "bytes", "ops")
"""The counts whose increase can fail a case."""

_SHOWN: Final = 5

_OPERATORS: Final[dict[str, TypeAdapter[Any]]] = {operator.__name__: TypeAdapter(operator) for operator in get_args(Op)}


def compare_counts(case: Case, base: Side, head: Side, settings: Settings) -> tuple[CountVerdictModel | None, str]:
    """Return the verdict on the exact counts; or None, and why the graphs could not be read.

    Raises:
        TargetError: If the sides are different networks, or a graph cannot be read, and
            ``settings.allow_different`` is off.
    """
    try:
        before, after = _graphs(case, base, head, settings.timeout)
    except TargetError as error:
        if settings.allow_different:
            return None, str(error)
        raise
    mode = Mode.TRAIN if case.direction == "train" else Mode.FORWARD
    verdict = judge_counts(before, after, mode, settings.count_margin)
    if verdict.differences and not settings.allow_different:
        shown = "; ".join(verdict.differences)
        raise TargetError(
            head.name, f"is not the same network as {base.name} (--allow-different times it anyway): {shown}"
        )
    return verdict, ""


def _graphs(case: Case, base: Side, head: Side, timeout: float) -> tuple[Shaped, Shaped]:
    """Read the graphs of both sides, each in its own process."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                SideProcess(
                    f"{role} ({side.name})", side.paths, {**job_of(case, side), "packages": str(PACKAGES)}, timeout
                )
            )
            for role, side in (("base", base), ("head", head))
        ]
        answers = [process.answer("graph") for process in processes]
    for side, answer in zip((base, head), answers, strict=True):
        side.require_origin(answer["origin"])
    return _shaped(answers[0]), _shaped(answers[1])


def _shaped(answer: Facts) -> Shaped:
    nodes = tuple(
        Node(
            path=node["path"],
            op=_OPERATORS[node["op"]].validate_python(node["attributes"]),
            inputs=tuple(node["inputs"]),
        )
        for node in answer["nodes"]
    )
    shapes = {path: tuple(shape) for path, shape in answer["shapes"].items()}
    return Shaped(network=Network(nodes=nodes), shapes=shapes)


def judge_counts(base: Shaped, head: Shaped, mode: Mode, margin: float) -> CountVerdictModel:
    """Compare the graphs of both sides, and their counts, which may increase by a relative margin."""
    before, after = _counts(base, mode), _counts(head, mode)
    increases = {}
    for name in _COUNTS:
        old, new = getattr(before, name), getattr(after, name)
        if new > old:
            increases[name] = (new - old) / old if old else float(new)
    grown = any(value > margin for value in increases.values())
    return CountVerdictModel(
        base=before,
        head=after,
        increases=increases,
        differences=() if before.digest == after.digest else _differences(base, head),
        verdict=GateVerdict.FAIL if grown else GateVerdict.PASS,
    )


def _counts(shaped: Shaped, mode: Mode) -> CountsModel:
    total = total_cost(node_costs(shaped.network, shaped.shapes, FULL, mode))
    return CountsModel(
        parameters=total.sizes.parameters,
        flops=total.flops,
        bytes=total.bytes_read + total.bytes_written,
        ops=sum(not isinstance(node.op, Input | Output) for node in shaped.network),
        uncounted=sum(total.skipped.values()),
        digest=_digest(shaped),
    )


def _digest(shaped: Shaped) -> str:
    """Return the SHA-256 of a network's normal form: equal for networks that differ in names only."""
    nodes = ordered(normal_form(shaped).network)
    number = {node.path: position for position, node in enumerate(nodes)}
    rows = []
    for node in nodes:
        attributes = {} if isinstance(node.op, Output) else {f.name: getattr(node.op, f.name) for f in fields(node.op)}
        rows.append([kind(node.op), attributes, [number[path] for path in node.inputs]])
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def _differences(base: Shaped, head: Shaped) -> tuple[str, ...]:
    """Return the first few differences of the networks, one line each, and how many more there are."""
    aspects = differences(align(normal_form(base), normal_form(head)))
    lines = [
        f"{aspect.path}: {aspect.attribute} is {aspect.actual} in head, {aspect.expected} in base"
        for aspect in aspects[:_SHOWN]
    ]
    more = len(aspects) - len(lines)
    return (*lines, f"and {more} more differences") if more > 0 else tuple(lines)

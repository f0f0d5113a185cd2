"""Plants faults that the values must show: nodes with one attribute wrong, and parameters that do not fit.

A faulty node runs on the oracle's values. Its result takes the place of the candidate's in the candidate's captured
graph, and the same rule decides about it. Because each node runs on the oracle's values, faults of several nodes are
planted together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.align.match import channel_orders
from deeplab_spec.capture.capture import Capture, Step
from deeplab_spec.capture.fx.module import state_of
from deeplab_spec.execute.interpreter import Values, step
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Activation, Add, BatchNorm, Concat, Conv2d, Op, Resize
from deeplab_spec.judge.deviation import Deviation
from deeplab_spec.judge.evidence import Evidence, UnmatchedParameter
from deeplab_spec.judge.expected import part_of
from deeplab_spec.judge.load_weights import Place, places
from deeplab_spec.judge.numerics.steps import Loaded, Steps
from deeplab_spec.judge.planted import PlantedFault
from deeplab_spec.mutate.faults.operators import planted_node, planted_operator

PLANTED: Final[tuple[tuple[type[Op], str], ...]] = (
    (BatchNorm, "eps"),
    (Activation, "kind"),
    (Activation, "slope"),
    (Conv2d, "rate"),
    (Resize, "align_corners"),
    (Concat, "inputs"),
    (Add, "inputs"),
)
"""Operators and attributes with a planted fault: in every part, at the last node whose values show it."""

FAULTY_CHANNELS: Final = 8
"""Number of output channels of a dense convolution that are computed with the fault; the others are right."""


def of_steps(
    loaded: Loaded, weights: Mapping[str, Tensor], oracle: Values, *, only_size: bool
) -> Iterator[PlantedFault]:
    """Plant faults in the steps of every part.

    Args:
        loaded: The candidate.
        weights: The weights of the oracle.
        oracle: The values on which every step runs.
        only_size: Whether the candidate accepts no other input size.
    """
    left = list(faulty_nodes(loaded, oracle))
    while left:
        together = {node.path: (words, node) for words, node in left}
        left = [(words, node) for words, node in left if together[node.path][1] is not node]
        values = {path: computed(node, weights, oracle) for path, (_, node) in together.items()}
        planted = Steps(with_values(loaded, values), oracle, only_size=only_size)
        for deviation in planted.compare(values):
            yield PlantedFault(
                clause=f"VALUES-{part_of(deviation.path)}",
                fault=together[deviation.path][0],
                path=deviation.origin,
                plant=_with_step(deviation),
            )


def _with_step(deviation: Deviation) -> Callable[[Evidence], Evidence]:
    def plant(evidence: Evidence) -> Evidence:
        steps = (deviation if step.path == deviation.path else step for step in evidence.steps)
        return replace(evidence, steps=tuple(steps))

    return plant


def faulty_nodes(loaded: Loaded, oracle: Values) -> Iterator[tuple[str, Node]]:
    """Choose the faults: one of every kind in every part, each as words and the faulty node."""
    compared, partner = loaded.reading.alignment.expected.network, loaded.reading.alignment.partner
    seen: set[tuple[str | None, type[Op], str]] = set()
    for node in reversed(compared.nodes):
        for kind, attribute in PLANTED:
            key = (part_of(node.path), kind, attribute)
            if node.path not in partner or key[0] is None or key in seen or not isinstance(node.op, kind):
                continue
            fault = _fault(loaded.expected[node.path], node, attribute, oracle)
            if fault:
                seen.add(key)
                yield fault


def _fault(node: Node, compared: Node, attribute: str, oracle: Values) -> tuple[str, Node] | None:
    """Return a node with a fault of one attribute; None where its values cannot show the fault.

    Args:
        node: The node of the specification.
        compared: The node in normal form, in which e.g. a resize of a single pixel has no rule any more.
        attribute: The attribute.
        oracle: The values on which the node runs.
    """
    if attribute != "inputs" and planted_operator(compared.op, attribute) is None:
        return None
    fault = planted_node(node, attribute)
    op = fault[1].op if fault else None
    if isinstance(op, Conv2d) and max(op.rate) >= min(oracle[node.inputs[0]].shape[2:]):
        return None
    return fault


def computed(node: Node, weights: Mapping[str, Tensor], oracle: Values) -> Tensor:
    """Compute a faulty node on the oracle's values, in the specification's channel order."""
    inputs = [oracle[path] for path in node.inputs]
    op = node.op
    if not isinstance(op, Conv2d) or op.groups > 1 or op.channels_out <= FAULTY_CHANNELS:
        return step(node, inputs, weights)
    few = replace(node, op=replace(op, channels_out=FAULTY_CHANNELS))
    own = {name: tensor[:FAULTY_CHANNELS] for name, tensor in weights.items() if name.rpartition(".")[0] == node.path}
    value = oracle[node.path].clone()
    value[:, :FAULTY_CHANNELS] = step(few, inputs, own)
    return value


def with_values(loaded: Loaded, values: Mapping[str, Tensor]) -> Loaded:
    """Return a candidate in which some nodes return fixed values, whatever their inputs are.

    Args:
        loaded: The candidate.
        values: Values by the specification's path, in the specification's channel order.
    """
    alignment, captured = loaded.reading.alignment, loaded.reading.capture
    orders, partner = channel_orders(alignment, captured.network), alignment.partner
    steps = dict(captured.steps)
    for path, value in values.items():
        order = orders.get(partner[path])
        permuted = value if order is None or max(order) >= value.shape[1] else value[:, list(order)]
        steps[partner[path]] = _constant(permuted)
    reading = replace(loaded.reading, capture=replace(captured, steps=steps))
    return replace(loaded, reading=reading)


def _constant(value: Tensor) -> Step:
    def constant(inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG001 - the signature of a step
        return value

    return constant


def of_parameters(loaded: Loaded) -> Iterator[PlantedFault]:
    """Plant a parameter of another shape, and two parameters stored in one place.

    Args:
        loaded: The candidate, in which every parameter of the specification has its place.
    """
    state, captured = state_of(loaded.module), loaded.reading.capture
    own = [place for place in loaded.places if place.view is None and _stored_at(loaded, place) in captured.parameters]
    if not own:
        return
    last = own[-1]
    longer = torch.empty((*state[last.name].shape, 2), device="meta")
    yield _unmatched(loaded, captured, {**state, last.name: longer}, last, f"another shape of {last.source}")
    like = [place for place in own[:-1] if state[place.name].shape == state[last.name].shape]
    if like:
        shared = {**captured.parameters, _stored_at(loaded, last): like[-1].name}
        words = f"{last.source} and {like[-1].source} in one place"
        yield _unmatched(loaded, replace(captured, parameters=shared), state, last, words)


def _stored_at(loaded: Loaded, place: Place) -> str:
    """Return the path and role of a parameter in the candidate."""
    path, _, role = place.source.rpartition(".")
    return f"{loaded.reading.alignment.partner[path]}.{role}"


def _unmatched(
    loaded: Loaded, captured: Capture, state: Mapping[str, Tensor], place: Place, words: str
) -> PlantedFault:
    alignment = loaded.reading.alignment
    orders = channel_orders(alignment, captured.network)
    found, unmatched = places(loaded.expected, alignment.partner, captured, state, orders)
    return PlantedFault(
        clause="WEIGHTS-FIT",
        fault=words,
        path=place.source.rpartition(".")[0],
        plant=_with_unmatched(len(found), unmatched),
    )


def _with_unmatched(parameters: int, unmatched: tuple[UnmatchedParameter, ...]) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, parameters=parameters, unmatched=unmatched)

"""Plants faults that the values must show: wrong nodes, wrong results, and parameters that do not fit.

A faulty node runs on the oracle's values. Its result takes the place of the candidate's in the candidate's captured
graph, and the same rule decides about it. Because each node runs on the oracle's values, faults of several nodes are
planted together. For whole runs, the fault is near the end of the network, so that only the last nodes run again; a
stand-in module returns the faulty results, and is called and compared like a candidate.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor, nn

from deeplab_spec.align.match import channel_orders
from deeplab_spec.capture.capture import Capture, Step
from deeplab_spec.capture.fx.module import state_of
from deeplab_spec.execute.interpreter import Values, step
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Activation, Add, BatchNorm, Concat, Conv2d, Multiply, Op, Output, Resize
from deeplab_spec.judge.evidence import Evidence, PlantedFault, UnmatchedParameter
from deeplab_spec.judge.expected import part_of
from deeplab_spec.judge.finding import Deviation
from deeplab_spec.judge.load_weights import Place, places
from deeplab_spec.judge.numerics.steps import Loaded, Steps
from deeplab_spec.mutate.faults.operators import planted_node, planted_operator

PLANTED: Final[tuple[tuple[type[Op], str], ...]] = (
    (BatchNorm, "eps"),
    (Activation, "kind"),
    (Activation, "slope"),
    (Conv2d, "rate"),
    (Resize, "align_corners"),
    (Concat, "inputs"),
    (Add, "inputs"),
    (Multiply, "inputs"),
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
    for node in reversed(compared.nodes):  # a part that is one convolution
        part = part_of(node.path)
        if (
            node.path in partner
            and part not in {key[0] for key in seen}
            and isinstance(node.op, Conv2d)
            and node.op.bias
        ):
            seen.add((part, Conv2d, "bias"))
            fault = planted_node(loaded.expected[node.path], "bias")
            yield from [fault] if fault else []


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
    if isinstance(op, Conv2d) and not op.bias:
        weights = {name: tensor for name, tensor in weights.items() if name != f"{node.path}.bias"}
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


FAULTS: Final = ((Resize, "align_corners"), (BatchNorm, "eps"), (Activation, "slope"))
"""Operators and attributes with a planted fault near the end."""

LARGE: Final = 2**15
"""A convolution with more weights than this does not run again."""

SCALE: Final = 1.0001
"""Factor on a result: the smallest fault found in a published network."""

EXACT: Final = "VALUES-END-TO-END"
"""The clause that must refuse a result with this factor."""

Compare = Callable[[nn.Module], tuple[Deviation, ...]]
"""Calls a stand-in, and compares its results."""

Plant = Callable[[Evidence, tuple[Deviation, ...]], Evidence]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultyEnd:
    """The last nodes of a network, the first of them faulty.

    Attributes:
        words: What is wrong.
        tap: Name of the result that shows it.
        nodes: The nodes in order: the faulty one first, the output last.
    """

    words: str
    tap: str
    nodes: tuple[Node, ...]

    @property
    def needs(self) -> frozenset[str]:
        """Paths of the values from outside that the nodes take."""
        inside = {node.path for node in self.nodes}
        return frozenset(path for node in self.nodes for path in node.inputs) - inside

    def result(self, values: Values, weights: Mapping[str, Tensor]) -> Tensor:
        """Run the nodes on values of the specified network."""
        results = {path: values[path] for path in self.needs}
        for node in self.nodes:
            results[node.path] = step(node, [results[path] for path in node.inputs], weights)
        return results[self.nodes[-1].path]


class FixedResults(nn.Module):
    """Returns the same results for every input.

    Args:
        results: Tensors by tap.
    """

    def __init__(self, results: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.results = dict(results)

    def forward(self, *_inputs: Tensor) -> dict[str, Tensor]:
        """Return the results."""
        return self.results


def faulty_ends(network: Network) -> tuple[FaultyEnd, ...]:
    """Return the ends of a network with a fault, for every output."""
    return tuple(end for node in network.outputs for end in _faulty_ends(network, node))


def _faulty_ends(network: Network, output: Node) -> Iterator[FaultyEnd]:
    after: tuple[Node, ...] = ()
    left = list(FAULTS)
    for node in _end(network, output):
        for kind, attribute in left:
            fault = planted_node(node, attribute) if isinstance(node.op, kind) else None
            if fault and isinstance(output.op, Output):
                left.remove((kind, attribute))
                words, faulty = fault
                yield FaultyEnd(words=words, tap=output.op.name, nodes=(faulty, *after))
                break
        after = (node, *after)


def _end(network: Network, output: Node) -> Iterator[Node]:
    """Walk back from an output while each node has one input and little computation repeats."""
    node = output
    yield node
    while node.inputs and (len(node.inputs) == 1 or isinstance(node.op, Resize)) and not _large(node):
        node = network[node.inputs[0]]
        yield node


def _large(node: Node) -> bool:
    op = node.op
    if not isinstance(op, Conv2d):
        return False
    return op.channels_out * op.channels_in // op.groups * op.kernel[0] * op.kernel[1] > LARGE


def needed(network: Network) -> frozenset[str]:
    """Return the paths of the values from which faulty ends start, whichever of its normalisations are folded."""
    return frozenset(path for output in network.outputs for node in _end(network, output) for path in node.inputs)


def of_ends(
    clause: str,
    planted: Collection[FaultyEnd],
    expected: Mapping[str, Tensor],
    values: Values,
    weights: Mapping[str, Tensor],
    compare: Compare,
    plant: Plant,
) -> Iterator[PlantedFault]:
    """Plant faults in the results of a run; without a faulty end, multiply the results.

    Args:
        clause: The clause that must refuse them.
        planted: Faulty ends of the network.
        expected: The specified results by tap.
        values: Values of the specified network.
        weights: Weights of the specified network.
        compare: Calls a stand-in like the candidate, and compares its results.
        plant: Replaces the deviations of the candidate by those of the stand-in.
    """
    faulty = [(end.words, end.tap, end.result(values, weights)) for end in planted]
    if clause == EXACT or not planted:
        faulty += [(f"{tap} times {SCALE}", tap, value * SCALE) for tap, value in expected.items()]
    for words, tap, value in faulty:
        deviations = compare(FixedResults({**expected, tap: value}))
        yield PlantedFault(clause=clause, fault=words, plant=_planted(plant, deviations))


def _planted(plant: Plant, seen: tuple[Deviation, ...]) -> Callable[[Evidence], Evidence]:
    return lambda evidence: plant(evidence, seen)

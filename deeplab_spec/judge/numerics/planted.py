"""Plants faults in steps: nodes of the specification with one attribute wrong, run on the oracle's values.

Their values take the place of the candidate's in its own captured graph, and are held to the same rule. Each
node runs on the oracle's values, so that faults at several nodes are planted together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from torch import Tensor

from deeplab_spec.align.channels import channel_orders
from deeplab_spec.capture.capture import Step
from deeplab_spec.execute.interpreter import Values, step
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Activation, Add, BatchNorm, Concat, Conv2d, Op, Resize
from deeplab_spec.judge.deviation import Deviation
from deeplab_spec.judge.evidence import Evidence
from deeplab_spec.judge.expected import part_of
from deeplab_spec.judge.numerics.steps import Loaded, Steps
from deeplab_spec.judge.planted import PlantedFault
from deeplab_spec.mutate.faults.neighbours import other

PLANTED: Final[tuple[tuple[type[Op], str], ...]] = (
    (BatchNorm, "eps"),
    (Activation, "kind"),
    (Activation, "slope"),
    (Conv2d, "rate"),
    (Resize, "align_corners"),
    (Concat, "inputs"),
    (Add, "inputs"),
)
"""What is wrong, of which operation; in every part at the last node at which it can be seen."""

FEW: Final = 8
"""So many channels of a convolution that sums over all channels are computed with the fault: the others are right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault of one node.

    Attributes:
        words: What is wrong.
        node: The wrong node, under the path of the right one.
    """

    words: str
    node: Node


def of_steps(
    loaded: Loaded, weights: Mapping[str, Tensor], oracle: Values, *, only_size: bool
) -> Iterator[PlantedFault]:
    """Plant faults in the steps of every part.

    Args:
        loaded: The candidate.
        weights: The weights of the oracle.
        oracle: The values that every step runs on.
        only_size: Whether the candidate takes no other size.
    """
    left = list(faults(loaded, oracle))
    while left:
        together = {fault.node.path: fault for fault in left}
        left = [fault for fault in left if together[fault.node.path] is not fault]
        values = {path: computed(fault.node, weights, oracle) for path, fault in together.items()}
        planted = Steps(with_values(loaded, values), oracle, only_size=only_size)
        for deviation in planted.compare(values):
            fault = together[deviation.path]
            yield PlantedFault(
                clause=f"VALUES-{part_of(fault.node.path)}",
                fault=fault.words,
                path=deviation.origin,
                plant=_in_place(deviation),
            )


def _in_place(deviation: Deviation) -> Callable[[Evidence], Evidence]:
    def plant(evidence: Evidence) -> Evidence:
        steps = (deviation if step.path == deviation.path else step for step in evidence.steps)
        return replace(evidence, steps=tuple(steps))

    return plant


def faults(loaded: Loaded, oracle: Values) -> Iterator[Fault]:
    """Choose what is planted: of every part, one fault of every kind."""
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


def _fault(node: Node, compared: Node, attribute: str, oracle: Values) -> Fault | None:
    """Make one attribute of a node wrong; None where its values cannot show it."""
    if attribute == "inputs":
        turned = node.inputs[::-1] if isinstance(node.op, Concat) else (node.inputs[0], node.inputs[0])
        return Fault(words=f"{', '.join(turned)} read at {node.path}", node=replace(node, inputs=turned))
    if other(compared.op, attribute) is None:  # e.g. the rule of a resize that broadcasts a single pixel
        return None
    op = other(node.op, attribute)
    if op is None or (isinstance(op, Conv2d) and max(op.rate) >= min(oracle[node.inputs[0]].shape[2:])):
        return None
    value = getattr(op, attribute)
    shown = value[0] if isinstance(value, tuple) else value
    return Fault(words=f"{attribute} {shown} at {node.path}", node=replace(node, op=op))


def computed(node: Node, weights: Mapping[str, Tensor], oracle: Values) -> Tensor:
    """Compute a wrong node on the oracle's values, in the specification's order of channels."""
    arriving = [oracle[path] for path in node.inputs]
    op = node.op
    if not isinstance(op, Conv2d) or op.groups > 1 or op.channels_out <= FEW:
        return step(node, arriving, weights)
    few = replace(node, op=replace(op, channels_out=FEW))
    mine = {where: tensor[:FEW] for where, tensor in weights.items() if where.rpartition(".")[0] == node.path}
    value = oracle[node.path].clone()
    value[:, :FEW] = step(few, arriving, mine)
    return value


def with_values(loaded: Loaded, values: Mapping[str, Tensor]) -> Loaded:
    """Return a candidate some of whose nodes have given values, whatever they read.

    Args:
        loaded: The candidate.
        values: Values by the specification's path, in the specification's order of channels.
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
    def given(inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG001 - the signature of a step
        return value

    return given

"""Puts the specification's weights into a candidate, through the alignment."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.align.channels import Order
from deeplab_spec.capture.layout import Layout
from deeplab_spec.capture.record import Capture
from deeplab_spec.checks.evidence import Misfit
from deeplab_spec.execute.weights import roles
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Conv2d

_ROLES: Final = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one tensor of the specification goes.

    Attributes:
        source: Its path and role in the specification.
        name: Its name in the candidate's state.
        order: Order of the channels along ``axis``; None for the specification's.
        axis: The axis that is permuted.
        view: How the tensor in the state is read; None for as it is.
    """

    source: str
    name: str
    order: Order | None
    axis: int
    view: Layout | None = None

    def read(self, held: Tensor) -> Tensor:
        """Return a tensor of the candidate as the specification has it, but for the order of channels."""
        return self.view.place(held) if self.view else held

    def arranged(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the specification in the candidate's order of channels."""
        if self.order is None or max(self.order) >= tensor.shape[self.axis]:
            return tensor
        return tensor.index_select(self.axis, torch.tensor(self.order))


def own_places(network: Network) -> tuple[Place, ...]:
    """Return the places in a module that names its tensors by path and role itself."""
    names = (f"{node.path}.{role}" for node in network for role in roles(node.op))
    return tuple(Place(source=name, name=name, order=None, axis=0) for name in names)


def places(
    expected: Network,
    partner: Mapping[str, str],
    captured: Capture,
    state: Mapping[str, Tensor],
    orders: Mapping[str, Order],
) -> tuple[tuple[Place, ...], tuple[Misfit, ...]]:
    """Find the place of every tensor of the specification, and those that have none.

    Args:
        expected: The specification.
        partner: The candidate's node by expected path.
        captured: The candidate.
        state: Its parameters and buffers.
        orders: Order of channels by the candidate's path.
    """
    found: list[Place] = []
    misfits: list[Misfit] = []
    for node in expected:
        shapes = roles(node.op)
        if not shapes:
            continue
        if node.path not in partner:
            misfits.append(_misfit(node, None, "weight", shapes.get("weight"), None))
            continue
        path = partner[node.path]
        for role in _ROLES:
            where = f"{path}.{role}"
            name, view = captured.parameters.get(where), captured.views.get(where)
            held = captured.as_read(where, state[name]) if name is not None and name in state else None
            actual = None if held is None else tuple(held.shape)
            if actual != shapes.get(role):
                misfits.append(_misfit(node, path, role, shapes.get(role), actual))
            elif name is not None:
                order = orders.get(captured.network[path].inputs[0])
                axis = 1 if isinstance(node.op, Conv2d) and not node.op.depthwise else 0
                permuted = order if role != "bias" or axis == 0 else None
                found.append(Place(source=f"{node.path}.{role}", name=name, order=permuted, axis=axis, view=view))
    return tuple(found), (*misfits, *_shared(found, expected))


def _misfit(
    node: Node, path: str | None, role: str, expected: tuple[int, ...] | None, actual: tuple[int, ...] | None
) -> Misfit:
    return Misfit(path=node.path, candidate_path=path, role=role, expected=expected, actual=actual)


def _shared(found: list[Place], expected: Network) -> Iterator[Misfit]:
    """Report tensors of the candidate in which two of the specification would have to live."""
    uses = Counter(place.name for place in found)
    for place in found:
        if uses[place.name] > 1:
            path, _, role = place.source.rpartition(".")
            shape = roles(expected[path].op)[role]
            yield Misfit(path=path, candidate_path=place.name, role=f"{role} (shared)", expected=shape, actual=shape)


def transfer(weights: Mapping[str, Tensor], places: tuple[Place, ...], state: Mapping[str, Tensor]) -> None:
    """Copy the specification's weights into a candidate's state, in place."""
    with torch.no_grad():
        for place in places:
            place.read(state[place.name]).copy_(place.arranged(weights[place.source]))


def by_role(captured: Capture, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a candidate's state by path and role of its captured nodes."""
    tensors = {**captured.constants, **state}
    named = {where: name for where, name in captured.parameters.items() if name in tensors}
    return {where: captured.as_read(where, tensors[name]) for where, name in named.items()}

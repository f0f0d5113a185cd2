"""Loads the specification's weights into a candidate, through the alignment."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from deeplab_spec.align.match import Order
from deeplab_spec.capture.capture import Capture, TensorSlice
from deeplab_spec.capture.fx.layout import Layout
from deeplab_spec.graph.network import Network, Node
from deeplab_spec.graph.ops import Conv2d, roles
from deeplab_spec.judge.evidence import UnmatchedParameter

_ROLES: Final = ("weight", "bias", "running_mean", "running_var")


UNMATCHED: Final = "not every weight of the specification has a place, so the two cannot be run with the same weights"
"""Why values are not compared if parameters are unmatched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one tensor of the specification is stored in a candidate.

    Attributes:
        source: Its path and role in the specification.
        name: Name in the candidate's state.
        order: Order of the channels along ``axis``; None for the specification's.
        axis: The axis that is permuted.
        view: Layout of the stored tensor; None for the specification's.
        part: The slice that is stored there; None for all of it.
    """

    source: str
    name: str
    order: Order | None
    axis: int
    view: Layout | None = None
    part: TensorSlice | None = None

    def stored(self, state: Mapping[str, Tensor]) -> Tensor:
        """Return the stored tensor, a view of the candidate's state."""
        return self.read(state[self.name])

    def read(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the candidate in the specification's layout, with the candidate's order of channels."""
        if self.part is not None:
            return self.part.view_of(tensor)
        return self.view.place(tensor) if self.view else tensor

    def arranged(self, tensor: Tensor) -> Tensor:
        """Return the values of a tensor of the specification that the candidate stores here."""
        tensor = self.ordered(tensor)
        return tensor if self.part is None else tensor.narrow(self.part.axis, self.part.at, self.part.size)

    def ordered(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the specification in the candidate's order of channels."""
        if self.order is None or max(self.order) >= tensor.shape[self.axis]:
            return tensor
        return tensor.index_select(self.axis, torch.tensor(self.order))


def own_places(network: Network) -> tuple[Place, ...]:
    """Return the places in a module whose tensors are named by path and role."""
    names = (f"{node.path}.{role}" for node in network for role in roles(node.op))
    return tuple(Place(source=name, name=name, order=None, axis=0) for name in names)


def places(
    expected: Network,
    partner: Mapping[str, str],
    captured: Capture,
    state: Mapping[str, Tensor],
    orders: Mapping[str, Order],
) -> tuple[tuple[Place, ...], tuple[UnmatchedParameter, ...]]:
    """Find the place of every tensor of the specification, and the unmatched parameters.

    Args:
        expected: The specification.
        partner: The candidate's node by expected path.
        captured: The candidate.
        state: Its parameters and buffers.
        orders: Order of channels by the candidate's path.
    """
    found: list[Place] = []
    unmatched: list[UnmatchedParameter] = []
    for node in expected:
        shapes = roles(node.op)
        if not shapes:
            continue
        if node.path not in partner:
            unmatched.append(_unmatched(node, None, "weight", shapes.get("weight"), None))
            continue
        path = partner[node.path]
        for role in _ROLES:
            where = f"{path}.{role}"
            stored = captured.tensor(where, state)
            actual = None if stored is None else tuple(stored.shape)
            if actual != shapes.get(role):
                unmatched.append(_unmatched(node, path, role, shapes.get(role), actual))
            elif stored is not None:
                order = orders.get(captured.network[path].inputs[0])
                axis = 1 if isinstance(node.op, Conv2d) and not node.op.depthwise else 0
                permuted = order if role != "bias" or axis == 0 else None
                found += _places(captured, where, f"{node.path}.{role}", permuted, axis)
    return tuple(found), (*unmatched, *_shared(found, expected))


def places_in_order(network: Network, state: Mapping[str, Tensor]) -> tuple[Place, ...]:
    """Find the places in a candidate whose graph is unknown, by the order of its layers.

    Returns:
        The places; none, if the shapes of its layers are not those of the specification's rows, in their order.
    """
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, tensor in state.items():
        layer, _, role = name.rpartition(".")
        if role in _ROLES:
            layers.setdefault(layer, {})[role] = tuple(tensor.shape)
    rows = {node.path: dict(shapes) for node in network if (shapes := roles(node.op))}
    if list(rows.values()) != list(layers.values()):
        return ()
    return tuple(
        Place(source=f"{path}.{role}", name=f"{layer}.{role}".removeprefix("."), order=None, axis=0)
        for (path, shapes), layer in zip(rows.items(), layers, strict=True)
        for role in shapes
    )


def _places(captured: Capture, where: str, source: str, order: Order | None, axis: int) -> Iterator[Place]:
    """Return the place of a tensor, or the places of its parts."""
    if where not in captured.parts:
        name, view = captured.parameters[where], captured.views.get(where)
        yield Place(source=source, name=name, order=order, axis=axis, view=view)
    for part in captured.parts.get(where, ()):
        yield Place(source=source, name=part.name, order=order, axis=axis, part=part)


def _unmatched(
    node: Node, path: str | None, role: str, expected: tuple[int, ...] | None, actual: tuple[int, ...] | None
) -> UnmatchedParameter:
    return UnmatchedParameter(path=node.path, candidate_path=path, role=role, expected=expected, actual=actual)


def _shared(found: list[Place], expected: Network) -> Iterator[UnmatchedParameter]:
    """Report tensors of the candidate that would have to store two of the specification."""
    uses = Counter(map(_stretch, found))
    for place in found:
        if uses[_stretch(place)] > 1:
            path, _, role = place.source.rpartition(".")
            shape = roles(expected[path].op)[role]
            yield UnmatchedParameter(
                path=path, candidate_path=place.name, role=f"{role} (shared)", expected=shape, actual=shape
            )


def _stretch(place: Place) -> tuple[object, ...]:
    return (place.name, place.part and (place.part.axis, place.part.start))


def copy_weights(weights: Mapping[str, Tensor], places: tuple[Place, ...], state: Mapping[str, Tensor]) -> None:
    """Copy the specification's weights into a candidate's state, in place."""
    for place in places:
        assign(place.stored(state), place.arranged(weights[place.source]))


def assign(tensor: Tensor, values: Tensor) -> None:
    """Copy values into a tensor; one that has them already counts as unchanged, and is not sent again."""
    if not torch.equal(tensor, values.to(tensor)):
        with torch.no_grad():
            tensor.copy_(values)

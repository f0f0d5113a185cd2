"""Aligns the graphs of source and destination, whose weights are to be moved.

A convolution and the only normalisation that uses it are one unit, so that a network with folded
normalisations aligns with one without.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from deeplab_spec.align.differences import Aspect, compare, differences
from deeplab_spec.align.match import Alignment, Order, align, channel_orders
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.capture.capture import Candidate, Capture
from deeplab_spec.capture.equivalences.graph_builder import merge_recomputed
from deeplab_spec.capture.fx.module import map_shapes
from deeplab_spec.errors import TargetError
from deeplab_spec.graph.folding import foldable, folded, with_bias
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Input, Opaque, Output, Pair
from deeplab_spec.judge.outputs import choose


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two networks.

    Attributes:
        name: The target that the user named.
        module: The network, in float64.
        captured: Its graph, at the size of ``image``.
        image: Height and width of the image that the graph was captured with, in pixels.
        dtypes: The dtype of every tensor of its state before the conversion to float64.
    """

    name: str
    module: Candidate
    captured: Capture
    image: Pair
    dtypes: Mapping[str, torch.dtype]

    @property
    def channels(self) -> int:
        """The channels of its image."""
        return next(node.op.channels for node in self.captured.network if isinstance(node.op, Input))

    def restore(self) -> None:
        """Convert every tensor back to its original dtype."""
        self.module.convert(self.dtypes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A convolution with the only normalisation that uses it, or one of the two alone."""

    conv: str | None = None
    norm: str | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of its operations."""
        return tuple(path for path in (self.conv, self.norm) if path)


Units = Mapping[str, Unit]
"""Units by their path in the alignment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """Source and destination, aligned.

    Attributes:
        source: The network that has the weights.
        dest: The network that gets them.
        alignment: The aligned units, the source's first.
        source_units: The source's units.
        dest_units: The destination's units.
        orders: The order of the source's channels, by path in the destination, where the orders differ.
        outputs: Paths of the corresponding outputs, the source's first.
    """

    source: Side
    dest: Side
    alignment: Alignment
    source_units: Units
    dest_units: Units
    orders: Mapping[str, Order]
    outputs: tuple[tuple[str, str], ...]

    def differences(self) -> tuple[Aspect, ...]:
        """Return the attributes that differ, in the order of the alignment.

        Operations without a record are compared by their values only.
        """
        aspects = [aspect for aspect in differences(self.alignment) if not isinstance(aspect.op, Opaque)]
        for left, right in self.alignment.partner.items():
            if left in self.source_units:
                aspects += self._eps(self.source_units[left], self.dest_units[right])
        place = {path: number for number, pair in enumerate(self.alignment.pairs) for path in pair[:1] if path}
        units = {path: place[unit] for unit, parts in self.source_units.items() for path in parts.paths}
        return tuple(sorted(aspects, key=lambda aspect: (place | units).get(aspect.path, len(place))))

    def _eps(self, unit: Unit, dest_unit: Unit) -> list[Aspect]:
        if not unit.conv or not unit.norm or not dest_unit.norm:
            return []  # a separate normalisation is compared already
        norm, dest_norm = self.source.captured.network[unit.norm], self.dest.captured.network[dest_unit.norm].op
        if not isinstance(norm.op, BatchNorm) or not isinstance(dest_norm, BatchNorm) or norm.op.eps == dest_norm.eps:
            return []
        return [compare(norm, dest_unit.norm, "eps", (norm.op.eps, dest_norm.eps))]


def in_double(module: Candidate, name: str, captured: Capture, image: Pair) -> Side:
    """Convert a captured network to float64.

    Raises:
        TargetError: If it does not have exactly one input.
    """
    if len(captured.network.inputs) != 1:
        raise TargetError(name, f"must have one input, but has {len(captured.network.inputs)}")
    dtypes = {key: tensor.dtype for key, tensor in module.tensors.items()}
    module.double()
    return Side(name=name, module=module, captured=merge_recomputed(captured), image=image, dtypes=dtypes)


def side_by_side(source: Side, dest: Side) -> SideBySide:
    """Align two networks that were captured at one size.

    Raises:
        TargetError: If one of them returns no tensor.
    """
    outputs = [_outputs(side) for side in (source, dest)]
    shapes = [
        [(name, side.captured.shapes[path]) for name, path in named.items()]
        for side, named in zip((source, dest), outputs, strict=True)
    ]
    names = choose(*shapes)
    source_graph = _with_outputs(source, {left: right for right, left in names.items()})
    dest_graph = _with_outputs(dest, {right: right for right in names})
    (expected, source_units), (candidate, dest_units) = fused(source_graph), fused(dest_graph)
    alignment = align(expected, candidate)
    return SideBySide(
        source=source,
        dest=dest,
        alignment=alignment,
        source_units=source_units,
        dest_units=dest_units,
        orders=channel_orders(alignment, dest.captured.network),
        outputs=tuple((outputs[0][left], outputs[1][right]) for right, left in names.items()),
    )


def fused(shaped: Shaped) -> tuple[Shaped, Units]:
    """Replace every convolution and the only normalisation that uses it by one convolution with a bias."""
    norm_of = dict(foldable(shaped.network))
    network = with_bias(folded(shaped.network), bias=True)
    units: dict[str, Unit] = {}
    for node in network:
        if isinstance(node.op, Conv2d):
            units[node.path] = Unit(conv=node.path, norm=norm_of.get(node.path))
        elif isinstance(node.op, BatchNorm):
            units[node.path] = Unit(norm=node.path)
    return shaped.with_network(network), units


def _outputs(side: Side) -> dict[str, str]:
    """Return the paths of a network's outputs, by name."""
    outputs = side.captured.network.results
    if not outputs:
        raise TargetError(side.name, "returns no tensor")
    return outputs


def _with_outputs(side: Side, names: Mapping[str, str]) -> Shaped:
    """Return the normal form with the corresponding outputs, under names that both sides share."""
    nodes = []
    for node in side.captured.network:
        if not isinstance(node.op, Output):
            nodes.append(node)
        elif node.op.name in names:
            nodes.append(replace(node, op=Output(name=names[node.op.name])))
    network = Network(nodes=tuple(nodes)).live()
    return normal_form(Shaped(network=network, shapes=map_shapes(side.captured)))

"""Two networks whose weights shall move, side by side.

They are aligned with each other, by their graphs. For that, a convolution and the normalisation that
alone reads it are one unit: so a network with folded normalisations stands beside one without.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from deeplab_spec.align.channels import Order, channel_orders
from deeplab_spec.align.differences import Aspect, differences
from deeplab_spec.align.family import stranger
from deeplab_spec.align.match import Alignment, align
from deeplab_spec.align.network_at_size import Shaped
from deeplab_spec.align.normal_form import normal_form
from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.file_module import FileModule
from deeplab_spec.capture.fx.module import map_shapes, state_of, uncompiled
from deeplab_spec.errors import TargetError
from deeplab_spec.graph.folding import foldable
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import BatchNorm, Conv2d, Input, Opaque, Output, Pair
from deeplab_spec.judge.outputs import choose


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two networks.

    Attributes:
        name: What the user named.
        module: The network, in float64.
        captured: Its graph, at the size of ``image``.
        image: Height and width of the image that the graph was read at.
        dtypes: The dtype of every tensor of its state before it was turned to float64.
    """

    name: str
    module: nn.Module
    captured: Capture
    image: Pair
    dtypes: Mapping[str, torch.dtype]

    @property
    def channels(self) -> int:
        """The channels of its image."""
        return next(node.op.channels for node in self.captured.network if isinstance(node.op, Input))

    def saved(self) -> dict[str, Tensor]:
        """Return what its state dict holds."""
        module = self.module
        return dict(module.tensors) if isinstance(module, FileModule) else uncompiled(module).state_dict()

    def restore(self) -> None:
        """Give every tensor the dtype that it had."""
        if isinstance(self.module, FileModule):
            self.module.tensors = {name: value.to(self.dtypes[name]) for name, value in self.module.tensors.items()}
            return
        module = uncompiled(self.module)
        for named in (module.named_parameters, module.named_buffers):
            for name, tensor in named(remove_duplicate=False):
                tensor.data = tensor.data.to(self.dtypes[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A convolution with the normalisation that alone reads it, or one of the two.

    Attributes:
        conv: Path of the convolution.
        norm: Path of the normalisation.
    """

    conv: str | None = None
    norm: str | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of its operations."""
        return tuple(path for path in (self.conv, self.norm) if path)


Units = Mapping[str, Unit]
"""Units by the path that stands for them in an alignment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """Source and destination, aligned.

    Attributes:
        source: The network that has the weights.
        dest: The network that gets them.
        alignment: Their units side by side, the source's first.
        source_units: The source's units.
        dest_units: The destination's units.
        orders: The order of channels by path in the destination, where it is another.
        outputs: Paths of the outputs that correspond, the source's first.
    """

    source: Side
    dest: Side
    alignment: Alignment
    source_units: Units
    dest_units: Units
    orders: Mapping[str, Order]
    outputs: tuple[tuple[str, str], ...]

    @property
    def stranger(self) -> str | None:
        """Why the destination is another network; None if it is not."""
        return stranger(self.alignment)

    def differences(self) -> tuple[Aspect, ...]:
        """Return the facts in which the two differ, in the order of the alignment.

        What an operation without a record does, the values must show.
        """
        found = [aspect for aspect in differences(self.alignment) if not isinstance(aspect.op, Opaque)]
        for left, right in self.alignment.partner.items():
            if left in self.source_units:
                found += self._eps(self.source_units[left], self.dest_units[right])
        place = {path: number for number, pair in enumerate(self.alignment.pairs) for path in pair[:1] if path}
        units = {path: place[unit] for unit, parts in self.source_units.items() for path in parts.paths}
        return tuple(sorted(found, key=lambda aspect: (place | units).get(aspect.path, len(place))))

    def _eps(self, mine: Unit, yours: Unit) -> list[Aspect]:
        if not mine.conv or not mine.norm or not yours.norm:
            return []  # a normalisation that stands alone is compared already
        ours, theirs = self.source.captured.network[mine.norm].op, self.dest.captured.network[yours.norm].op
        if not isinstance(ours, BatchNorm) or not isinstance(theirs, BatchNorm) or ours.eps == theirs.eps:
            return []
        return [
            Aspect(
                path=mine.norm,
                candidate_path=yours.norm,
                op=ours,
                attribute="eps",
                expected=ours.eps,
                actual=theirs.eps,
                equal=False,
            )
        ]


def in_double(module: nn.Module, name: str, captured: Capture, image: Pair) -> Side:
    """Turn a captured network to float64.

    Args:
        module: The network.
        name: What the user named.
        captured: Its graph.
        image: Height and width of the image that the graph was read at.

    Raises:
        TargetError: If it does not read one image.
    """
    if len(captured.network.inputs) != 1:
        raise TargetError(name, f"must read one image, but has {len(captured.network.inputs)} inputs")
    dtypes = {key: tensor.dtype for key, tensor in state_of(module).items()}
    module.double()
    return Side(name=name, module=module, captured=captured, image=image, dtypes=dtypes)


def side_by_side(source: Side, dest: Side) -> SideBySide:
    """Align two networks that were read at one size.

    Raises:
        TargetError: If one of them gives no tensor.
    """
    outputs = [_outputs(side) for side in (source, dest)]
    shapes = [
        [(name, side.captured.shapes[path]) for name, path in found.items()]
        for side, found in zip((source, dest), outputs, strict=True)
    ]
    names = choose(*shapes)
    mine = _with_outputs(source, {left: right for right, left in names.items()})
    yours = _with_outputs(dest, {right: right for right in names})
    (expected, source_units), (candidate, dest_units) = fused(mine), fused(yours)
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
    """Write every convolution with the normalisation that alone reads it as one convolution with a bias."""
    norm_of = dict(foldable(shaped.network))
    conv_of = {norm: conv for conv, norm in norm_of.items()}
    units: dict[str, Unit] = {}
    nodes = []
    for node in shaped.network:
        if node.path in conv_of:
            continue
        op = node.op
        if isinstance(op, Conv2d):
            units[node.path] = Unit(conv=node.path, norm=norm_of.get(node.path))
            op = replace(op, bias=True)
        elif isinstance(op, BatchNorm):
            units[node.path] = Unit(norm=node.path)
        nodes.append(replace(node, op=op, inputs=tuple(conv_of.get(path, path) for path in node.inputs)))
    return shaped.with_network(Network(nodes=tuple(nodes))), units


def _outputs(side: Side) -> dict[str, str]:
    """Return the paths of what a network returns, by name."""
    found = {node.op.name: node.path for node in side.captured.network if isinstance(node.op, Output)}
    if not found:
        raise TargetError(side.name, "returns no tensor")
    return found


def _with_outputs(side: Side, names: Mapping[str, str]) -> Shaped:
    """Return the normal form with the outputs that correspond, under names that both sides share."""
    nodes = []
    for node in side.captured.network:
        if not isinstance(node.op, Output):
            nodes.append(node)
        elif node.op.name in names:
            nodes.append(replace(node, op=Output(name=names[node.op.name])))
    network = Network(nodes=tuple(nodes)).live()
    return normal_form(Shaped(network=network, shapes=map_shapes(side.captured)))

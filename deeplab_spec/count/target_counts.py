"""Counts what somebody's own network costs, under the specification's paths where it is of the family."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor, nn

from deeplab_spec.align.names import renamed, specified_paths
from deeplab_spec.align.nearest import nearest
from deeplab_spec.analysis.conventions import TFPROF, Convention
from deeplab_spec.analysis.costs import Cost, Values, node_costs
from deeplab_spec.analysis.parameters import Sizes
from deeplab_spec.analysis.protocol import Protocol, over_passes
from deeplab_spec.analysis.receptive_field import receptive_fields
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.capture.capture import Capture
from deeplab_spec.capture.file_module import FileModule
from deeplab_spec.capture.fx.module import capture_at, map_shapes, shared_parameters
from deeplab_spec.capture.target import Target, load
from deeplab_spec.count.document import CountDocument, asked, counted, torch_fault
from deeplab_spec.errors import CaptureError, GraphError, TargetError, one_line
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Pair
from deeplab_spec.judge.structure.nearest_form import in_normal_form
from deeplab_spec.spec.variants import Variant

if TYPE_CHECKING:
    from deeplab_spec.count.service import CountRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """A captured network, ready to be counted.

    Attributes:
        name: What the user named.
        variant: The published network whose paths its nodes have; None if they keep their own.
        network: Its graph, at the image's own size.
        shapes: Shape of every value, at that size.
        passes: The graph and its shapes in every pass of the protocol.
        trainable: Parameters that are trained.
        shared: Paths of the nodes whose parameters another node has already.
        unread: Parameters that no operation reads.
    """

    name: str
    variant: Variant | None
    network: Network
    shapes: Values
    passes: tuple[tuple[Network, Values], ...]
    trainable: int
    shared: frozenset[str]
    unread: int

    @property
    def notes(self) -> tuple[str, ...]:
        """What the counts do not show."""
        notes = []
        if self.variant:
            notes.append(f"blocks are named as in {self.variant.name}, the published network that it is nearest to")
        if self.shared:
            notes.append(f"{len(self.shared)} operations use parameters of others, which are counted once")
        if self.unread:
            notes.append(f"{self.unread:,} more parameters are read by no operation")
        return tuple(notes)

    def document(self, request: "CountRequest") -> CountDocument:
        """Count the network as it was asked for.

        Raises:
            SpecError: If the convention cannot count the mode.
        """
        protocol = request.protocol
        nodes = self.costs(request.convention, request.mode, protocol.images)
        try:
            fields = receptive_fields(self.network, request.size)
        except GraphError:
            fields = {}  # an operation is not known
        fault = torch_fault(request.convention, request.mode, self.passes, protocol.images)
        return CountDocument(
            target=self.name,
            variant=self.variant.name if self.variant else None,
            choices=None,
            output_stride=request.output_stride,
            size=request.size,
            classes=request.classes,
            **asked(request.convention, request.mode, protocol),
            prediction=request.convention is TFPROF,
            notes=(*self.notes, *fault),
            **counted(nodes, fields, by_node=request.by_node, trainable=self.trainable),
        )

    def costs(self, convention: Convention, mode: Mode, images: int = 1) -> tuple[Cost, ...]:
        """Count every node over all passes; parameters that nodes share are counted once.

        Raises:
            SpecError: If the convention cannot count the mode.
        """
        own = node_costs(self.network, self.shapes, convention, mode)
        passes = [node_costs(network, shapes, convention, mode) for network, shapes in self.passes]
        costs = over_passes(own, passes, images)
        return tuple(replace(cost, sizes=Sizes()) if cost.path in self.shared else cost for cost in costs)


def read(
    target: Target, output_stride: int, classes: int, size: Pair, protocol: Protocol, variant: Variant | None = None
) -> Captured:
    """Build a target and read its graph at every size of a protocol.

    What the target prints goes to stderr.

    Args:
        target: What the user named.
        output_stride: Passed to what builds it.
        classes: Passed to what builds it.
        size: Height and width of the image.
        protocol: Scales of the image.
        variant: The published network whose paths its nodes shall have; by default the nearest.

    Raises:
        TargetError: If it cannot be imported, built, exported or run at a size.
    """
    with contextlib.redirect_stdout(sys.stderr):
        module = load(target, output_stride, classes).eval()
        captures = {sides: captured_at(module, sides, target.name) for sides in (size, *protocol.sizes(size))}
    own = captures[size]
    found = nearest(in_normal_form(own), output_stride, classes, size, variant)
    paths = specified_paths(found[0], own.network) if found else {node.path: node.path for node in own.network}
    read_by = {name: path.rpartition(".")[0] for path, name in own.parameters.items()}
    passes = []
    for sides in protocol.sizes(size):
        if [node.path for node in captures[sides].network] != list(paths):
            raise TargetError(target.name, f"computes other operations at {sides[0]}x{sides[1]} than at its own size")
        passes.append(named(captures[sides], paths))
    held = list(_trained(module, own))
    parameters = {id(parameter): parameter for _, parameter in held}
    used = {id(parameter) for name, parameter in held if name in read_by}
    network, shapes = named(own, paths)
    return Captured(
        name=target.name,
        variant=found[1] if found else None,
        network=network,
        shapes=shapes,
        passes=tuple(passes),
        trainable=sum(
            parameter.numel()
            for parameter in parameters.values()
            if parameter.requires_grad or isinstance(module, FileModule)
        ),
        shared=frozenset(paths[path] for path in shared_parameters(module, own)),
        unread=sum(parameter.numel() for key, parameter in parameters.items() if key not in used),
    )


def _trained(module: nn.Module, captured: Capture) -> Iterator[tuple[str, Tensor]]:
    """Return every tensor that is trained, by name; of a file, those that its operations would train."""
    if not isinstance(module, FileModule):
        yield from module.named_parameters(remove_duplicate=False)
        return
    for where, name in captured.parameters.items():
        if where.endswith((".weight", ".bias")):
            yield name, module.tensors[name]


def captured_at(module: nn.Module, size: Pair, name: str) -> Capture:
    """Read a module's graph at the size of one image.

    Raises:
        TargetError: If it cannot be exported or run at the size.
    """
    try:
        return capture_at(module, size)
    except CaptureError as error:
        raise TargetError(name, f"cannot be read at {size[0]}x{size[1]}: {one_line(error)}") from error


def named(captured: Capture, paths: Mapping[str, str]) -> tuple[Network, Values]:
    """Return a captured network and the shapes of its values under other paths."""
    return renamed(captured.network, paths), {paths[path]: shape for path, shape in map_shapes(captured).items()}

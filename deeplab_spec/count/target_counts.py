"""Counts the costs of a user's network, under the specification's paths if it belongs to the family.

For an explanation of figures it is captured once, and then counted at any size.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, redirect_stdout
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from torch import Tensor

from deeplab_spec.align.canonical import renamed, specified_paths
from deeplab_spec.align.network_at_size import Shaped, for_any_size
from deeplab_spec.align.published import align_published
from deeplab_spec.analysis.conventions import TFPROF, Convention
from deeplab_spec.analysis.costs import Cost, Values, node_costs
from deeplab_spec.analysis.protocol import SINGLE, Protocol, over_passes
from deeplab_spec.analysis.receptive_field import receptive_fields
from deeplab_spec.analysis.terms import Mode, Sizes, conv_weights
from deeplab_spec.capture.candidate.module import ModuleCandidate
from deeplab_spec.capture.capture import Candidate, Capture
from deeplab_spec.capture.equivalences.graph_builder import merge_recomputed
from deeplab_spec.capture.fx.module import capture_target, map_shapes, shared_parameters
from deeplab_spec.capture.target import Target, connect, is_file
from deeplab_spec.count.document import CountDocument, cost_fields, counting, torch_counter_note
from deeplab_spec.count.explain.candidates import Case
from deeplab_spec.count.explain.tally import Linear, Tally, logits_layers
from deeplab_spec.errors import GraphError, TargetError
from deeplab_spec.graph.network import Network
from deeplab_spec.graph.ops import Conv2d, Pair
from deeplab_spec.judge.structure.nearest_form import in_normal_form
from deeplab_spec.spec.variants import Variant

if TYPE_CHECKING:
    from deeplab_spec.capture.target import TargetLike
    from deeplab_spec.count.explain.service import ExplainRequest
    from deeplab_spec.count.service import CountRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """A captured network whose costs can be counted.

    Attributes:
        name: The target that the user named.
        variant: The published network that its nodes are named after; None if they keep their own paths.
        network: Its graph, at the size of the image.
        shapes: Shape of every value at that size.
        passes: The graph and the shapes of its values in every pass of the protocol.
        trainable: Number of parameters that are trained.
        shared: Paths of the nodes whose parameters are counted at an earlier node.
        unused: Number of parameters that no operation uses.
    """

    name: str
    variant: Variant | None
    network: Network
    shapes: Values
    passes: tuple[tuple[Network, Values], ...]
    trainable: int
    shared: frozenset[str]
    unused: int

    @property
    def notes(self) -> tuple[str, ...]:
        """Facts that the counts do not show."""
        notes = []
        if self.variant:
            notes.append(f"blocks are named as in {self.variant.name}, the nearest published network")
        if self.shared:
            notes.append(f"{len(self.shared)} operations share parameters with others; these are counted once")
        if self.unused:
            notes.append(f"{self.unused:,} more parameters are used by no operation")
        return tuple(notes)

    def document(self, request: "CountRequest") -> CountDocument:
        """Count the network as the request says.

        Raises:
            SpecError: If the convention does not support the mode.
        """
        protocol = request.protocol
        nodes = self.costs(request.convention, request.mode, protocol.images)
        try:
            fields = receptive_fields(self.network, request.size)
        except GraphError:
            fields = {}  # an operation is unknown
        note = torch_counter_note(request.convention, request.mode, self.passes, protocol.images)
        return CountDocument(
            target=self.name,
            variant=self.variant.name if self.variant else None,
            choices=None,
            output_stride=request.output_stride,
            size=request.size,
            classes=request.classes,
            **counting(request.convention, request.mode, protocol),
            prediction=request.convention is TFPROF,
            notes=(*self.notes, *note),
            **cost_fields(nodes, fields, by_node=request.by_node, trainable=self.trainable),
        )

    def costs(self, convention: Convention, mode: Mode, images: int = 1) -> tuple[Cost, ...]:
        """Count every node over all passes; shared parameters are counted once.

        Raises:
            SpecError: If the convention does not support the mode.
        """
        own = node_costs(self.network, self.shapes, convention, mode)
        passes = [node_costs(network, shapes, convention, mode) for network, shapes in self.passes]
        costs = over_passes(own, passes, images)
        return tuple(replace(cost, sizes=Sizes()) if cost.path in self.shared else cost for cost in costs)


def read(
    target: Target, output_stride: int, classes: int, size: Pair, protocol: Protocol, variant: Variant | None = None
) -> Captured:
    """Build a target and capture its graph at every size of a protocol.

    Output of the target goes to stderr.

    Its nodes are named after a published network; by default after the nearest.

    Raises:
        TargetError: If it cannot be imported, built, exported or run at a size.
    """
    with redirect_stdout(sys.stderr), closing(connect(target, output_stride, classes)) as module:
        sizes = dict.fromkeys((size, *protocol.sizes(size)))
        captures = {sides: capture_target(module, sides, target.name) for sides in sizes}
    own = captures[size]
    match = align_published(in_normal_form(own), output_stride, classes, size, variant)
    paths = (
        specified_paths(match[0], own.network, merge_recomputed(own).again)
        if match
        else {node.path: node.path for node in own.network}
    )
    readers = {name: path.rpartition(".")[0] for path, name in own.parameters.items()}
    passes = []
    for sides in protocol.sizes(size):
        if [node.path for node in captures[sides].network] != list(paths):
            raise TargetError(target.name, f"computes other operations at {sides[0]}x{sides[1]} than at its own size")
        passes.append(named(captures[sides], paths))
    trained = list(_trained(module, own))
    parameters = {id(parameter): parameter for _, parameter in trained}
    frozen = {id(parameter) for name, parameter in trained if not _trains(module, name)}
    used = {id(parameter) for name, parameter in trained if name in readers}
    network, shapes = named(own, paths)
    return Captured(
        name=target.name,
        variant=match[1] if match else None,
        network=network,
        shapes=shapes,
        passes=tuple(passes),
        trainable=sum(parameter.numel() for key, parameter in parameters.items() if key not in frozen),
        shared=frozenset(paths[path] for path in shared_parameters(module, own)),
        unused=sum(parameter.numel() for key, parameter in parameters.items() if key not in used),
    )


def _trains(module: Candidate, name: str) -> bool:
    return not isinstance(module, ModuleCandidate) or name in module.trained


def _trained(module: Candidate, captured: Capture) -> Iterator[tuple[str, Tensor]]:
    """Yield every trained tensor by name; for a file, the weights and biases of its operations."""
    if isinstance(module, ModuleCandidate):
        yield from ((name, module.tensors[name]) for name in module.parameter_names)
        return
    for where, name in captured.parameters.items():
        if where.endswith((".weight", ".bias")):
            yield name, module.tensors[name]


def named(captured: Capture, paths: Mapping[str, str]) -> tuple[Network, Values]:
    """Return a captured network and the shapes of its values, renamed."""
    return renamed(captured.network, paths), {paths[path]: shape for path, shape in map_shapes(captured).items()}


_SIZES: Final = ((513, 513), (512, 512))
"""The network is captured at the first size that it takes."""


def case_of(
    request: "ExplainRequest", target: "TargetLike", output_stride: int, classes: int, conventions: Sequence[Convention]
) -> Case:
    """Return a target as a case.

    Raises:
        TargetError: If it cannot be built or read.
        GraphError: If its costs are not known.
    """
    built = replace(Target.of(target, request.arguments), process=request.process)
    sizes = (request.size,) if request.size else _SIZES
    captured = _at_a_size(built, output_stride, classes, sizes)
    network = for_any_size(Shaped(network=captured.network, shapes=captured.shapes))
    each = _unused_of_a_class(built, captured, output_stride, classes) if captured.unused else 0
    tally = Tally(network, conventions, captured.shared, Linear(captured.unused, each))
    return Case(name=captured.name, output_stride=output_stride, tally=tally)


def _at_a_size(target: Target, output_stride: int, classes: int, sizes: Sequence[Pair]) -> Captured:
    for size in sizes[:-1]:
        try:
            return read(target, output_stride, classes, size, SINGLE)
        except TargetError:
            continue  # it may take no odd sizes
    return read(target, output_stride, classes, sizes[-1], SINGLE)


def _unused_of_a_class(target: Target, captured: Captured, output_stride: int, classes: int) -> int:
    """Return how many parameters that no operation uses one more class has: the target is built again for it.

    They are those of an auxiliary head, as a rule, which is not run in evaluation.
    """
    if is_file(target.name):
        return 0
    own, more = (_parameters(target, output_stride, number) for number in (classes, classes + 1))
    layers = logits_layers(captured.network)
    op = captured.network[layers[0]].op if layers else None
    used = conv_weights(op) // op.channels_out + op.bias if isinstance(op, Conv2d) else 0
    return max(more - own - used, 0)


def _parameters(target: Target, output_stride: int, classes: int) -> int:
    with redirect_stdout(sys.stderr), closing(connect(target, output_stride, classes)) as module:
        if not isinstance(module, ModuleCandidate):
            return 0
        tensors = {id(tensor): tensor for name, tensor in module.tensors.items() if name in module.parameter_names}
        return sum(tensor.numel() for tensor in tensors.values())

"""The JSON document of ``count``, and the functions that make it.

``macs`` is the count of the document's convention. The other figures do not depend on the convention:
floating point operations are those of ``full``, bytes are for float32 and one image.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final

from deeplab_spec.analysis.conventions import MAC, TFPROF, TORCH, Convention, undivided_weight_gradients
from deeplab_spec.analysis.costs import Cost, Number, Values, block_costs, block_of, evaluate, total_cost
from deeplab_spec.analysis.protocol import SINGLE, Protocol, protocol_costs
from deeplab_spec.analysis.published import published
from deeplab_spec.analysis.receptive_field import ReceptiveField, receptive_fields
from deeplab_spec.analysis.sizes import shapes
from deeplab_spec.analysis.terms import Mode
from deeplab_spec.graph.network import Network
from deeplab_spec.result import Result
from deeplab_spec.spec.api import Subject
from deeplab_spec.spec.choices import as_json
from deeplab_spec.views.document import Document, Json, Model

_INPUT_OUTPUT: Final = ("input", "output")
"""First steps of the paths that are not blocks: the inputs and outputs of the network."""


class FieldModel(Model):
    """A receptive field in input pixels, vertical first."""

    extent: tuple[Number, Number]
    step: tuple[Number, Number]
    offset: tuple[Number, Number]
    whole_image: bool
    exact: bool


class FiguresModel(Model):
    """The cost of a node, a block or a network; ``bytes_live`` is the peak of memory in use."""

    parameters: int
    buffers: int
    macs: Number
    flops: int
    bytes_read: int
    bytes_written: int
    bytes_kept: int
    bytes_live: int
    intensity: float


class CostModel(FiguresModel):
    """The cost of a block or a node; ``output`` is empty if the value is not a feature map."""

    path: str
    output: tuple[int, ...]
    receptive_field: FieldModel | None


class TotalModel(FiguresModel):
    """The cost of the network.

    ``peak_bytes`` is ``bytes_live`` plus parameters and running statistics. ``operators`` has the
    convention's total by operator, ``skipped`` the number of operators that it does not count.
    ``trainable`` counts all parameters except those that a target has frozen.
    """

    trainable: int
    folded_parameters: int
    dead_biases: int
    peak_bytes: int
    operators: dict[str, Number]
    skipped: dict[str, int]


class PublishedModel(Model):
    """A published figure in billions, and the relative difference of the document's total to it."""

    billions: float
    residual: float
    source: str


class CountDocument(Result, Document):
    """The document of ``count --json``.

    ``nodes`` is present with ``--by node`` only. For a target, ``variant`` is the published network
    that its nodes are named after; null for another network, whose nodes keep their own paths.
    ``prediction`` is true if the convention reconstructs published figures, but none is published here.
    """

    target: str | None = None
    variant: str | None
    choices: Json | None
    output_stride: int
    size: tuple[int, int]
    classes: int
    convention: str
    mode: Mode
    scales: tuple[float, ...]
    flip: bool
    total: TotalModel
    blocks: tuple[CostModel, ...]
    nodes: tuple[CostModel, ...] | None = None
    published: PublishedModel | None = None
    prediction: bool = False
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The table and the lines below it that ``count`` prints."""
        from deeplab_spec.count.text import count_grid, count_summary
        from deeplab_spec.views.table import plain

        return f"{plain(count_grid(self))}\n{count_summary(self)}"

    @property
    def summary(self) -> str:
        """The network with its parameters and operations."""
        total, (height, width) = self.total, self.size
        return (
            f"{self.target or self.variant}, output stride {self.output_stride}, {height}x{width}: "
            f"{total.parameters:,} parameters, {total.macs:,} operations ({self.convention})"
        )


def count_document(
    subject: Subject,
    *,
    convention: Convention = MAC,
    mode: Mode = Mode.FORWARD,
    protocol: Protocol = SINGLE,
    by_node: bool = False,
) -> CountDocument:
    """Count one network of the specification.

    Raises:
        GraphError: If the choices do not fit together at this size.
        SpecError: If the convention does not support the mode.
    """
    graph = subject.network()
    nodes = protocol_costs(graph, subject.size, protocol, convention, mode)
    parts = cost_fields(nodes, receptive_fields(graph, subject.size), by_node=by_node)
    passes = [(graph, shapes(graph, sides)) for sides in protocol.sizes(subject.size)]
    figure = published_figure(subject, parts["total"].macs, protocol) if convention is TFPROF else None
    return CountDocument(
        variant=subject.variant.name,
        choices=as_json(subject.choices),
        output_stride=subject.output_stride,
        size=subject.size,
        classes=subject.classes,
        **counting(convention, mode, protocol),
        published=figure,
        prediction=convention is TFPROF and figure is None,
        notes=torch_counter_note(convention, mode, passes, protocol.images),
        **parts,
    )


def counting(convention: Convention, mode: Mode, protocol: Protocol) -> Json:
    """Return the fields of a document that say what is counted."""
    return {
        "convention": convention.name,
        "mode": mode,
        "scales": tuple(map(float, protocol.scales)),
        "flip": protocol.flip,
    }


def published_figure(subject: Subject, operations: Number, protocol: Protocol = SINGLE) -> PublishedModel | None:
    """Return the published figure of a network and a protocol, if there is one, and how far a count is from it."""
    row = published(subject, protocol)
    residual = row.residual(operations) if row else None
    if row is None or row.billions is None or residual is None:
        return None
    return PublishedModel(billions=float(row.billions), residual=residual, source=str(row.source))


def torch_counter_note(
    convention: Convention, mode: Mode, passes: Sequence[tuple[Network, Values]], images: int = 1
) -> tuple[str, ...]:
    """Return a note on a torch whose counter does not divide weight gradients by the groups.

    Only the convention ``torch`` has it, and only for a training step. A pass is a network with the shapes of its
    values.
    """
    if convention is not TORCH or mode is not Mode.TRAIN:
        return ()
    excess = images * sum(
        evaluate(undivided_weight_gradients(node), known)
        for network, known in passes
        for node in network
        if known[node.path]
    )
    text = "FlopCounterMode of torch 2.13 does not divide the weight gradients of grouped convolutions by their groups"
    return (f"{text}: it reports {excess:,} more",) if excess else ()


def cost_fields(
    nodes: Sequence[Cost], fields: Mapping[str, ReceptiveField], *, by_node: bool = False, trainable: int | None = None
) -> Json:
    """Return the fields of a document that hold costs.

    All parameters are trained unless ``trainable`` says how many.
    """
    blocks = block_costs(tuple(nodes))
    last = {block_of(node.path): node.path for node in nodes}
    total = total_cost(tuple(nodes))
    shown = [
        block for block in blocks if block.path.split(".")[0] not in _INPUT_OUTPUT or block.path == "output.resize"
    ]
    return {
        "total": TotalModel(
            **_figures(total),
            trainable=total.sizes.parameters if trainable is None else trainable,
            folded_parameters=total.sizes.folded_parameters,
            dead_biases=total.sizes.dead_biases,
            peak_bytes=total.bytes_live + 4 * (total.sizes.parameters + total.sizes.buffers),
            operators=dict(total.operators),
            skipped=dict(total.skipped),
        ),
        "blocks": tuple(_cost(block, fields.get(last[block.path])) for block in shown),
        "nodes": tuple(_cost(node, fields.get(node.path)) for node in nodes) if by_node else None,
    }


def _figures(cost: Cost) -> Json:
    return {
        "parameters": cost.sizes.parameters,
        "buffers": cost.sizes.buffers,
        "macs": cost.operations,
        "flops": cost.flops,
        "bytes_read": cost.bytes_read,
        "bytes_written": cost.bytes_written,
        "bytes_kept": cost.bytes_kept,
        "bytes_live": cost.bytes_live,
        "intensity": round(cost.intensity, 3),
    }


def _cost(cost: Cost, field: ReceptiveField | None) -> CostModel:
    return CostModel(
        path=cost.path, output=cost.output, receptive_field=_field(field) if field else None, **_figures(cost)
    )


def _field(field: ReceptiveField) -> FieldModel:
    vertical, horizontal = field
    return FieldModel(
        extent=(_number(vertical.extent), _number(horizontal.extent)),
        step=(_number(vertical.step), _number(horizontal.step)),
        offset=(_number(vertical.offset), _number(horizontal.offset)),
        whole_image=vertical.whole,
        exact=vertical.exact and horizontal.exact,
    )


def _number(value: Fraction) -> Number:
    return int(value) if value.denominator == 1 else float(value)

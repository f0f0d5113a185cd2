"""The JSON documents of ``show`` and ``clauses``, and the functions that make them; with the costs of each erratum."""

import dataclasses
import math
from typing import Any, Final

from deeplab_spec.analysis.sizes import Shape, shapes
from deeplab_spec.analysis.totals import Evaluator
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import Op, kind, roles
from deeplab_spec.spec import distributions as d
from deeplab_spec.spec.api import Subject
from deeplab_spec.spec.choices import Results, as_json, choose, names, plain
from deeplab_spec.spec.clauses import CLAUSES, NOTES, Clause, clauses_of
from deeplab_spec.spec.errata import Erratum, errata_of
from deeplab_spec.spec.network import network
from deeplab_spec.spec.rows import Init, InitKind
from deeplab_spec.spec.variants import NOTEBOOK, Variant
from deeplab_spec.views.document import Document, Json, Model

_SIZE = (513, 513)


class EffectModel(Model):
    """The parameters and multiply-adds that an erratum adds at one output stride."""

    output_stride: int
    parameters: int
    macs: int


def effects(erratum: Erratum) -> tuple[EffectModel, ...]:
    """Return the effect of an erratum alone at every output stride of the document; none if it changes no network.

    >>> from deeplab_spec.spec.errata import ERRATA
    >>> effects(next(entry for entry in ERRATA if entry.id == "ERRATUM-DEAD-BIASES"))[-1]
    EffectModel(output_stride=16, parameters=93928, macs=0)
    """
    if not erratum.corrections:
        return ()
    corrected = choose(NOTEBOOK.choices, dict(erratum.corrections))
    found = []
    for stride in NOTEBOOK.output_strides:
        verbatim, fixed = (Evaluator(network(each, stride))(*_SIZE) for each in (NOTEBOOK.choices, corrected))
        parameters = verbatim.sizes.parameters - fixed.sizes.parameters
        macs = int(verbatim.operations - fixed.operations)
        found.append(EffectModel(output_stride=stride, parameters=parameters, macs=macs))
    return tuple(found)


_BY_NAME: Final = {
    InitKind.KAIMING_FAN_IN: 'kaiming_normal_({}, mode="fan_in", nonlinearity="relu")',
    InitKind.KAIMING_FAN_OUT: 'kaiming_normal_({}, mode="fan_out", nonlinearity="relu")',
    InitKind.KAIMING_UNIFORM: 'kaiming_uniform_({}, mode="fan_in", nonlinearity="relu")',
    InitKind.XAVIER_UNIFORM: "xavier_uniform_({})",
    InitKind.FRAMEWORK: "kaiming_uniform_({}, a=math.sqrt(5))",  # what nn.Conv2d does itself
}
"""Initialisations of a weight that torch computes from its shape."""


class InitialModel(Model):
    """How one tensor starts.

    ``scale`` is the standard deviation of a normal distribution (before it is cut off), half the width of a uniform
    one, or the constant; ``bound`` the largest magnitude, or null; ``torch`` the call, where ``w`` is the tensor.
    """

    shape: d.Shape
    scale: float
    bound: float | None
    torch: str


def initial_tensors(op: Op, init: Init | None) -> dict[str, InitialModel]:
    """Return how the tensors of an operation start, by role."""
    found = {role: d.distribution(op, role, init) for role in roles(op)}
    return {role: _model(known, init if role == "weight" else None) for role, known in found.items() if known}


def _model(known: d.Distribution, init: Init | None) -> InitialModel:
    by_name = _BY_NAME.get(init.kind) if init and known.shape is not d.Shape.CONSTANT else None
    return InitialModel(
        shape=known.shape,
        scale=known.scale,
        bound=None if math.isinf(known.bound) else known.bound,
        torch=by_name.format("w") if by_name else torch_call(known),
    )


def torch_call(known: d.Distribution) -> str:
    """Return the call of ``torch.nn.init`` that draws from a distribution.

    >>> torch_call(d.Distribution(shape=d.Shape.TRUNCATED, scale=0.09))
    'trunc_normal_(w, std=0.09, a=-0.18, b=0.18)'
    >>> torch_call(d.Distribution(shape=d.Shape.CONSTANT, scale=0.0))
    'zeros_(w)'
    """
    scale, bound = f"{known.scale:.9g}", f"{known.bound:.9g}"
    match known.shape:
        case d.Shape.NORMAL:
            return f"normal_(w, std={scale})"
        case d.Shape.TRUNCATED:
            return f"trunc_normal_(w, std={scale}, a=-{bound}, b={bound})"
        case d.Shape.UNIFORM:
            return f"uniform_(w, a=-{bound}, b={bound})"
        case d.Shape.CONSTANT:
            return {0.0: "zeros_(w)", 1.0: "ones_(w)"}.get(known.scale, f"constant_(w, {scale})")


class NodeModel(Model):
    """One operation of the graph.

    Pairs are vertical and horizontal, margins top, bottom, left and right; padding ``same`` is the rule that makes the
    output ``ceil(size / stride)``, with the odd pixel at the bottom and on the right. ``initial`` says how each tensor
    of the operation starts.
    """

    path: str
    op: str
    attributes: Json
    inputs: tuple[str, ...]
    output: Shape
    initial: dict[str, InitialModel]
    source: str | None


class ShowDocument(Document):
    """The document of ``show --format json``: the whole graph, and every number that a port of it takes.

    ``size_multiple``: height and width of an image must be multiples of it. ``results``: a tensor, or a dictionary
    with the names of the nodes of kind ``Output``.
    """

    variant: str
    choices: Json
    output_stride: int
    size: tuple[int, int]
    classes: int
    title: str
    source: str
    parameters: int
    size_multiple: int
    results: Results
    taps: dict[str, str]
    nodes: tuple[NodeModel, ...]


class ClauseModel(Model):
    """One clause; ``choices`` has the variant's values, or null without a variant.

    ``why`` says what depends on it, ``mistake`` how ports break it, ``torch`` how it is written, where that helps.
    """

    id: str
    level: str
    sentence: str
    why: str
    mistake: str
    torch: str
    source: str
    choices: dict[str, Any]


class ErratumModel(Model):
    """One erratum of the source document."""

    id: str
    sentence: str
    shown_by: str
    corrections: Json
    api_note: str
    source: str
    effects: tuple[EffectModel, ...]


class ClausesDocument(Document):
    """The document of ``clauses --format json``."""

    variant: str | None
    clauses: tuple[ClauseModel, ...]
    errata: tuple[ErratumModel, ...]


def show_document(subject: Subject) -> ShowDocument:
    """Return the document of one network.

    Raises:
        GraphError: If the choices do not fit together at this size.
    """
    graph, rows = subject.network(), subject.rows()
    known, drawn = shapes(graph, subject.size), d.initials(rows)
    return ShowDocument(
        variant=subject.variant.name,
        choices=as_json(subject.choices),
        output_stride=subject.output_stride,
        size=subject.size,
        classes=subject.classes,
        title=subject.variant.title,
        source=str(subject.variant.source),
        parameters=Evaluator(graph)(*subject.size).sizes.parameters,
        size_multiple=rows.size_multiple,
        results=Results.NAMED if rows.named_results or len(graph.outputs) > 1 else Results.TENSOR,
        taps=dict(graph.taps),
        nodes=tuple(_node(node, known[node.path], drawn.get(node.path)) for node in graph),
    )


def clauses_document(variant: Variant | None) -> ClausesDocument:
    """Return the document of all clauses, and of the errata if the variant has any."""
    clauses = clauses_of(None, variant.family.family, on_request=True) if variant else CLAUSES
    return ClausesDocument(
        variant=variant.name if variant else None,
        clauses=tuple(_clause(clause, variant) for clause in clauses),
        errata=tuple(_erratum(erratum) for erratum in (errata_of(variant.name) if variant else ())),
    )


def _node(node: Node, output: Shape, init: Init | None) -> NodeModel:
    attributes = {name: plain(getattr(node.op, name)) for name in type(node.op).__slots__}
    return NodeModel(
        path=node.path,
        op=kind(node.op),
        attributes=attributes,
        inputs=node.inputs,
        output=output,
        initial=initial_tensors(node.op, init),
        source=str(node.source) if node.source else None,
    )


def _clause(clause: Clause, variant: Variant | None) -> ClauseModel:
    decided = names(variant.family) if variant else clause.choices
    chosen = [name for name in clause.choices if name in decided]
    values = {name: plain(getattr(variant.choices, name)) if variant else None for name in chosen}
    return ClauseModel(
        id=clause.id,
        level=clause.level.value,
        sentence=clause.sentence,
        **dataclasses.asdict(NOTES[clause.id]),
        source=str(clause.source),
        choices=values,
    )


def _erratum(erratum: Erratum) -> ErratumModel:
    return ErratumModel(
        id=erratum.id,
        sentence=erratum.sentence,
        shown_by=erratum.shown_by,
        corrections={name: plain(value) for name, value in erratum.corrections},
        api_note=erratum.api_note,
        source=str(erratum.source),
        effects=effects(erratum),
    )

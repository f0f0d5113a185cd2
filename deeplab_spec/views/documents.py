"""The JSON documents of ``show``, ``count`` and ``clauses``, and how they are made.

A document's form is stable: a field may be added, and ``schema_version`` grows when one changes
its meaning or goes.
"""

import json
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from deeplab_spec.analysis.errata import effects
from deeplab_spec.analysis.sizes import Shape, shapes
from deeplab_spec.analysis.subject import Subject
from deeplab_spec.graph.network import Node
from deeplab_spec.graph.ops import kind
from deeplab_spec.spec.choices import as_json, plain, written
from deeplab_spec.spec.clauses import CLAUSES, Clause
from deeplab_spec.spec.errata import ERRATA, Erratum
from deeplab_spec.spec.variants import NOTEBOOK, Variant

SCHEMA_VERSION: Final = 1
Json = dict[str, Any]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _SubjectModel(_Model):
    schema_version: Literal[1] = SCHEMA_VERSION
    variant: str
    choices: Json
    output_stride: int
    size: tuple[int, int]
    classes: int


class NodeModel(_Model):
    """One operation of the graph."""

    path: str
    op: str
    attributes: Json
    inputs: tuple[str, ...]
    output: Shape
    source: str | None


class ShowDocument(_SubjectModel):
    """The document of ``show --format json``: the whole graph."""

    title: str
    source: str
    taps: dict[str, str]
    nodes: tuple[NodeModel, ...]


class ClauseModel(_Model):
    """One clause; ``choices`` has the variant's values where a variant was named."""

    id: str
    level: str
    sentence: str
    source: str
    choices: dict[str, Any]


class EffectModel(_Model):
    """What an erratum adds to the corrected network at one output stride."""

    output_stride: int
    parameters: int
    macs: int


class ErratumModel(_Model):
    """One erratum of the source document."""

    id: str
    sentence: str
    shown_by: str
    corrections: Json
    api_note: str
    source: str
    effects: tuple[EffectModel, ...]


class ClausesDocument(_Model):
    """The document of ``clauses --format json``; only ``notebook`` has errata."""

    schema_version: Literal[1] = SCHEMA_VERSION
    variant: str | None
    clauses: tuple[ClauseModel, ...]
    errata: tuple[ErratumModel, ...]


def show_document(subject: Subject) -> ShowDocument:
    """Return the whole graph of one network.

    Raises:
        GraphError: If the choices do not fit together at this size.
    """
    graph = subject.network()
    known = shapes(graph, subject.size)
    return ShowDocument(
        **_subject(subject),
        title=subject.variant.title,
        source=str(subject.variant.source),
        taps=dict(graph.taps),
        nodes=tuple(_node(node, known[node.path]) for node in graph),
    )


def clauses_document(variant: Variant | None) -> ClausesDocument:
    """Return the clauses, and the errata where the variant has any."""
    errata = ERRATA if variant is NOTEBOOK else ()
    return ClausesDocument(
        variant=variant.name if variant else None,
        clauses=tuple(_clause(clause, variant) for clause in CLAUSES),
        errata=tuple(_erratum(erratum) for erratum in errata),
    )


def to_json(document: BaseModel) -> str:
    """Return a document as text, without the list of nodes where none was asked for."""
    return document.model_dump_json(indent=2, exclude={"nodes"} if getattr(document, "nodes", ()) is None else None)


def to_schema(document: type[BaseModel]) -> str:
    """Return the JSON Schema of a document."""
    return json.dumps(document.model_json_schema(), indent=2)


def _subject(subject: Subject) -> Json:
    return {
        "variant": subject.variant.name,
        "choices": as_json(subject.choices),
        "output_stride": subject.output_stride,
        "size": subject.size,
        "classes": subject.classes,
    }


def _node(node: Node, output: Shape) -> NodeModel:
    attributes = {name: plain(getattr(node.op, name)) for name in type(node.op).__slots__}
    return NodeModel(
        path=node.path,
        op=kind(node.op),
        attributes=attributes,
        inputs=node.inputs,
        output=output,
        source=str(node.source) if node.source else None,
    )


def _clause(clause: Clause, variant: Variant | None) -> ClauseModel:
    values = {name: plain(getattr(variant.choices, name)) if variant else None for name in clause.choices}
    return ClauseModel(
        id=clause.id,
        level=clause.level.value,
        sentence=clause.sentence,
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
        effects=tuple(
            EffectModel(output_stride=effect.output_stride, parameters=effect.parameters, macs=effect.macs)
            for effect in effects(erratum)
        ),
    )


def choice_text(name: str, value: object) -> str:
    """Write a choice of a document as a command line takes it; its name alone where it has no value."""
    if value is None:
        return name
    return f"{name}={written(tuple(value) if isinstance(value, list) else value)}"  # type: ignore[arg-type]  # from plain

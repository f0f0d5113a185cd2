"""The base of every JSON document, and how a document becomes text.

The form of a document is stable: fields may be added, and ``schema_version`` grows when a field
changes its meaning or is removed.
"""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Json = dict[str, Any]
"""A JSON object."""


class Model(BaseModel):
    """A part of a document: it cannot be changed, and has no fields but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Document(Model):
    """A whole document, in the first version of its schema."""

    schema_version: Literal[1] = 1


def to_json(document: BaseModel) -> str:
    """Return a document as text; a list of nodes that is null is left out."""
    return document.model_dump_json(indent=2, exclude={"nodes"} if getattr(document, "nodes", ()) is None else None)


def to_schema(document: type[BaseModel]) -> str:
    """Return the JSON Schema of a document."""
    return json.dumps(document.model_json_schema(), indent=2)

"""The JSON documents of ``mutants``: what became of every wrong network, and the strength that follows."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from deeplab_spec.mutate.mutant import Shows

SCHEMA_VERSION: Literal[1] = 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Lower(_Model):
    """What a lower precision shows of a mutant."""

    ratio: float = Field(description="Its error over that of the specification itself, the largest tried.")
    killed: bool


class Judged(_Model):
    """What became of one mutant, on each level alone."""

    subject: str = Field(description="Published network and output stride.")
    width: float
    kind: str
    name: str
    path: str
    shows: Shows
    proof: str = Field(description="Why it is the same function; empty if it is not.")
    structure: tuple[str, ...] = Field(default=(), description="Clauses of the structure that refuse its graph.")
    first: str | None = Field(default=None, description="The node that is named first.")
    exact: bool | None = Field(default=None, description="Whether that is a node that the fault was made at.")
    numerics: tuple[str, ...] = Field(default=(), description="Clauses that refuse its values, its graph hidden.")
    unfit: str = Field(default="", description="A tensor of the specification that has no place in it.")
    error: float | None = Field(default=None, description="Relative error in float64 that decided.")
    lower: dict[str, Lower] = Field(default_factory=dict, description="By dtype.")
    training: tuple[str, ...] | None = Field(default=None, description="Clauses of training that refuse it.")

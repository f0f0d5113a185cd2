"""The JSON documents of ``mutants``: what became of every wrong network, and the strength that follows."""

from pydantic import ConfigDict, Field

from deeplab_spec.mutate.mutant import Shows
from deeplab_spec.views.document import Document, Model


class _Entry(Model):
    """What is kept in a journal: an error that is infinite is read again as it was written."""

    model_config = ConfigDict(ser_json_inf_nan="strings")


class Lower(_Entry):
    """What a lower precision shows of a mutant."""

    ratio: float = Field(description="Its error over that of the specification itself, the largest tried.")
    killed: bool


class Judged(_Entry):
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
    lower: dict[str, Lower] = Field(
        default_factory=dict,
        description="By precision, weights and images cast to it; without those in which the specification overflows.",
    )
    training: tuple[str, ...] | None = Field(default=None, description="Clauses of training that refuse it.")

    @property
    def key(self) -> str:
        """Its name among all entries of a run."""
        return key_of(self.subject, self.width, self.name)


def key_of(subject: str, width: float, name: str) -> str:
    """Return the name of a mutant among all entries of a run."""
    return f"{subject} {width:g} {name}"


class Rewritten(Model):
    """What became of one equal network."""

    name: str
    kind: str
    refused: str = Field(description="Why it was not accepted; empty if it was.")
    float32_ratio: float | None = Field(description="Its error in float32 over that of the specification.")
    float64_error: float | None = Field(description="Its relative error in float64.")

    @property
    def key(self) -> str:
        """Its name among all entries of a run."""
        return f"rewrite {self.name}"


class Rewrites(Model):
    """What became of the equal networks."""

    total: int
    accepted: int
    rejected: tuple[str, ...]
    kinds: dict[str, int]
    float32_ratio: float = Field(description="The largest error of an accepted one over that of the specification.")
    float64_error: float = Field(description="The largest relative error of an accepted one.")


class Survivor(Model):
    """A mutant that a level accepts although it must show there."""

    name: str
    subject: str
    width: float
    level: str
    error: float | None = Field(description="Its relative error in float64, where it was run.")


class Equal(Model):
    """Mutants that are proven to be the same function."""

    kind: str
    proof: str
    total: int
    refused: tuple[str, ...] = Field(description="Those that the structure refuses all the same.")


class AtLevel(Model):
    """What one level alone refuses."""

    shown: int = Field(description="Mutants that must show on the level.")
    killed: int


class AtDtype(Model):
    """What the values show in one dtype, the graph hidden."""

    tried: int = Field(description="Mutants that can be run with the specification's weights.")
    killed: int
    limit: float = Field(description="Of the relative error in float64; in others, of its ratio to the reference's.")


class Localised(Model):
    """How often the first node that is named is one that the fault was made at."""

    total: int
    exact: int
    elsewhere: tuple[str, ...] = Field(description="Mutants whose first difference is named at another node.")


class Sampled(Model):
    """Mutants drawn at full width."""

    total: int
    killed: int


class Margins(Model):
    """How close the closest mutant comes to being accepted."""

    float64: float = Field(description="Smallest relative error of any mutant.")
    float64_mutant: str
    float64_limit: float
    float32: float = Field(description="Smallest ratio of a mutant's error to that of the specification.")
    float32_mutant: str
    float32_limit: float


class MutantsDocument(Document):
    """How strong the judge is."""

    variants: tuple[str, ...]
    output_strides: tuple[int, ...]
    width: float
    sample: int | None = Field(description="Mutants drawn of each network; null for all.")
    seed: int
    versions: dict[str, str]
    total: int = Field(description="Wrong networks.")
    killed: int = Field(description="Those that every level refuses on which they must show.")
    survivors: tuple[Survivor, ...]
    equal: tuple[Equal, ...] = Field(description="Mutants that are no wrong networks, with the proof.")
    unfit: int = Field(description="Edits that are no networks, because their shapes do not fit.")
    by_clause: dict[str, dict[str, int]] = Field(description="Mutants that a clause refuses, by kind.")
    first: dict[str, str] = Field(description="A mutant that no clause of the level before this one refuses.")
    by_level: dict[str, AtLevel]
    by_dtype: dict[str, AtDtype] = Field(description="By precision: weights and images are cast to it.")
    rewrites: Rewrites | None = Field(description="Equal networks, all of which must be accepted.")
    localised: Localised
    full_width: Sampled | None
    margins: Margins | None

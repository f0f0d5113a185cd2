"""The JSON documents of ``mutants``: the verdicts on every mutant and rewrite, and the report that sums them up."""

from pydantic import ConfigDict, Field

from deeplab_spec.mutate.mutant import Shows
from deeplab_spec.views.document import Document, Model


class _Entry(Model):
    """An entry of a piece, in which infinite errors keep their value."""

    model_config = ConfigDict(ser_json_inf_nan="strings")


class Lower(_Entry):
    """Verdict on a mutant in a lower precision."""

    ratio: float = Field(description="The mutant's error over the specification's own: the largest of all trials.")
    killed: bool


class JudgedMutant(_Entry):
    """The verdicts on one mutant, of each level alone."""

    subject: str = Field(description="Published network and output stride.")
    width: float
    kind: str
    name: str
    path: str
    shows: Shows
    proof: str = Field(description="Why the mutant is the same function; empty if it is not.")
    structure: tuple[str, ...] = Field(default=(), description="Clauses of the structure that refuse the graph.")
    first: str | None = Field(default=None, description="The node that the first finding names.")
    exact: bool | None = Field(default=None, description="Whether the fault was made at that node.")
    numerics: tuple[str, ...] = Field(default=(), description="Clauses that refuse the values, with the graph hidden.")
    unfit: str = Field(default="", description="A tensor of the specification that does not fit the mutant.")
    error: float | None = Field(default=None, description="Relative error in float64 that decided the verdict.")
    lower: dict[str, Lower] = Field(
        default_factory=dict,
        description="Verdicts by precision, to which weights and images are cast; without those that overflow.",
    )
    training: tuple[str, ...] | None = Field(default=None, description="Clauses of training that refuse the mutant.")

    @property
    def key(self) -> str:
        """Name of the entry in a piece."""
        return key_of(self.subject, self.width, self.name)


def key_of(subject: str, width: float, name: str) -> str:
    """Return the name of a mutant's entry in a piece."""
    return f"{subject} {width:g} {name}"


class JudgedRewrite(Model):
    """The verdict on one rewrite."""

    name: str
    kind: str
    refused: str = Field(description="Why it was not accepted; empty if it was.")
    float32_ratio: float | None = Field(default=None, description="Error in float32 over the specification's own.")
    float64_error: float | None = Field(default=None, description="Relative error in float64.")

    @property
    def key(self) -> str:
        """Name of the entry in a piece."""
        return f"rewrite {self.name}"


class Rewrites(Model):
    """The verdicts on the equal networks."""

    total: int
    accepted: int
    rejected: tuple[str, ...]
    kinds: dict[str, int]
    float32_ratio: float = Field(
        description="Largest error of an accepted one in float32, over the specification's own."
    )
    float64_error: float = Field(description="Largest relative error of an accepted one in float64.")


class Survivor(Model):
    """A mutant that a level accepts although the fault shows there."""

    name: str
    subject: str
    width: float
    level: str
    error: float | None = Field(description="Relative error in float64; null where it was not run.")


class Equal(Model):
    """Mutants that are proven to be the same function."""

    kind: str
    proof: str
    total: int
    refused: tuple[str, ...] = Field(description="Those that the structure refuses nevertheless.")


class AtLevel(Model):
    """The mutants that one level refuses without the others."""

    shown: int = Field(description="Mutants whose fault shows on the level.")
    killed: int


class AtDtype(Model):
    """The mutants that the values refuse in one precision, with the graph hidden."""

    tried: int = Field(description="Mutants that run with the specification's weights.")
    killed: int
    limit: float = Field(description="Largest accepted relative error in float64, or ratio to the reference's error.")


class Localised(Model):
    """How often the first finding names the node with the fault."""

    total: int
    exact: int
    elsewhere: tuple[str, ...] = Field(description="Mutants whose first finding names another node.")


class Sampled(Model):
    """The mutants of a sample at full width."""

    total: int
    killed: int


class Margins(Model):
    """How close the closest mutant is to being accepted."""

    float64: float = Field(description="Smallest relative error of any mutant.")
    float64_mutant: str
    float64_limit: float
    float32: float = Field(description="Smallest ratio of a mutant's error to the specification's own.")
    float32_mutant: str
    float32_limit: float


class MutantsDocument(Document):
    """The strength of the judge."""

    variants: tuple[str, ...]
    output_strides: tuple[int, ...]
    width: float
    sample: int | None = Field(description="Number of mutants in the sample of each network; null for all.")
    seed: int
    isolated: bool = Field(
        default=False, description="Whether a candidate's process built and ran every network, as for certify."
    )
    versions: dict[str, str]
    total: int = Field(description="Wrong networks.")
    killed: int = Field(description="Those that are refused by every level on which they show.")
    survivors: tuple[Survivor, ...]
    equal: tuple[Equal, ...] = Field(description="Mutants that are provably the same function, with the proof.")
    unfit: int = Field(description="Number of faulty graphs that cannot run, because their shapes do not fit.")
    by_clause: dict[str, dict[str, int]] = Field(description="Number of mutants that each clause refuses, by kind.")
    first: dict[str, str] = Field(description="For each clause, a mutant that no earlier clause of the level refuses.")
    by_level: dict[str, AtLevel]
    by_dtype: dict[str, AtDtype] = Field(description="By precision, to which weights and images are cast.")
    rewrites: Rewrites | None = Field(description="Equal networks, all of which must be accepted.")
    localised: Localised
    full_width: Sampled | None
    margins: Margins | None

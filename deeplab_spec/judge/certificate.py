"""The certificate: the result of a judgement as a JSON document. Text, HTML and exit code are made from it."""

from collections import Counter
from datetime import date
from typing import ClassVar, Final

from pydantic import Field

from deeplab_spec.judge.finding import Finding, Json, RunVerdict, Verdict
from deeplab_spec.result import ExitCode, Result
from deeplab_spec.views.document import Document, Model, Sparse

_EXIT_CODES: Final = {
    RunVerdict.CONFORMS: ExitCode.DONE,
    RunVerdict.CONFORMS_WITH_WAIVERS: ExitCode.DIFFERENT,
    RunVerdict.DEVIATES: ExitCode.DIFFERENT,
    RunVerdict.INCONCLUSIVE: ExitCode.UNDECIDED,
}


class WaiverRecord(Model):
    """A waiver that covers findings of a clause."""

    node: str | None = Field(
        description="Path of the findings that it may cover, null for any; a star stands for part of one name."
    )
    reason: str
    expires: date = Field(description="The last day on which it is valid.")
    covers: tuple[str, ...] = Field(description="Paths of the findings that it covers.")


class ClauseRecord(Model):
    """The decision about one clause."""

    id: str
    level: str
    verdict: Verdict
    decisions: int = Field(description="Single decisions that were made.")
    required: int = Field(
        default=0, description="Expected number of single decisions; with fewer, the clause does not pass."
    )
    planted: int = Field(default=0, description="Faults that were planted for it, to check that they are refused.")
    killed: int = Field(default=0, description="How many of them were refused.")
    reason: str = Field(description="Why the clause is undecided or not applicable; else empty.")
    findings: tuple[Finding, ...]
    waivers: tuple[WaiverRecord, ...] = Field(
        default=(), description="Waivers that cover findings of the clause; it is waived if they cover all of them."
    )


class Case(Model):
    """One configuration in which the candidate was run."""

    output_stride: int
    sizes: tuple[tuple[int, int], ...] = Field(description="Height and width of the images.")
    dtype: str
    device: str


class Nearest(Model):
    """The nearest published network, and the choices that differ from it."""

    variant: str
    choices: dict[str, Json]


class Values(Model):
    """Statistics of a tensor."""

    shape: tuple[int, ...]
    mean: float
    deviation: float = Field(description="Standard deviation of the elements.")
    least: float
    greatest: float


class SmallestInput(Model):
    """The smallest input found on which a node's values differ, with both values there."""

    batch: int
    image: tuple[int, int] = Field(description="Height and width.")
    content: str = Field(description="What the images hold.")
    error: float = Field(description="Relative error of the candidate's value.")
    expected: Values
    actual: Values


class FirstDivergence(Model):
    """The first node that differs, on both sides."""

    path: str
    candidate_path: str | None
    output_stride: int
    attribute: str = Field(description="The attribute that differs first.")
    expected: Json
    actual: Json
    smallest_input: SmallestInput | None = Field(
        default=None, description="The smallest input on which its values differ; null if the step itself agrees."
    )


class PlantedTotals(Model):
    """Faults that the run planted for the clauses that would pass, to check that it refuses them."""

    planted: int
    killed: int = Field(description="How many were refused; a clause is undecided where one was not.")


class Conditioning(Model):
    """How well the drawn weights separate faults from rounding."""

    output_stride: int
    float32_error: float = Field(description="Relative error of the specification itself in float32.")
    float32_ratio: float | None = Field(
        default=None, description="Largest error of the candidate in float32 over that of the specification."
    )
    float64_error: float | None = Field(
        default=None, description="Largest relative error of the candidate end to end in float64."
    )
    covered: int = Field(description="Operations that saw values of every kind they treat differently.")
    operations: int = Field(description="Operations that treat kinds of values differently.")


class StepError(Model):
    """The error of one step of the candidate in float64, on the specification's own values."""

    output_stride: int
    path: str
    error: float | None = Field(description="Relative; null if it is not finite.")
    allowed: float


class BlockCounts(Model):
    """The costs of one block: expected, then actual."""

    path: str
    parameters: tuple[int, int]
    macs: tuple[int, int]


class Counts(Model):
    """The costs of the network at one output stride: expected, then actual."""

    output_stride: int
    size: tuple[int, int] = Field(description="Height and width of the image of the multiply-adds.")
    parameters: tuple[int, int]
    macs: tuple[int, int]
    differing: tuple[BlockCounts, ...] = Field(description="The blocks whose costs differ from the expected ones.")


class Specification(Model):
    """The specification that was judged by: its release, its commit where it is known, and what it says."""

    version: str
    commit: str = Field(default="", description="With '-dirty' if files of this package were changed.")
    digest: str = Field(default="", description="SHA-256 of its clauses and of the expected network.")


class Subject(Sparse):
    """What was judged at one output stride, and what the expected number of decisions depends on."""

    left_out: ClassVar = ("channels",)

    output_stride: int
    graph: str | None = Field(default=None, description="SHA-256 of its graph, under canonical names; null if unread.")
    weights: str = Field(default="", description="SHA-256 of its parameters and buffers, before others were loaded.")
    sides: tuple[tuple[int, int], ...] = Field(
        default=(), description="Height and width of its inputs if it fixes them."
    )
    batch: int | None = Field(default=None, description="The number of images if it fixes it.")
    channels: tuple[int, ...] = Field(default=(), description="Channels of the inputs of a part in a whole network.")
    image: tuple[int, int] | None = Field(
        default=None, description="Height and width at which its graph was compared; null if it was not compared."
    )
    folded: bool = Field(default=False, description="Whether all its normalisations are folded into convolutions.")
    norms: tuple[str, ...] = Field(default=(), description="The normalisations that are folded into convolutions.")
    calls: tuple[int, int] | None = Field(
        default=None, description="Its calls after many calls and of copies, and those in float64; null if not called."
    )
    whole_runs: bool = Field(default=False, description="Whether only whole runs were compared.")
    trained: bool = Field(default=False, description="Whether it was trained.")


class Settings(Model):
    """What was fixed before the run, beside the fields of the certificate."""

    overrides: tuple[str, ...] = ()
    arguments: dict[str, str] = Field(default_factory=dict)
    against_arguments: dict[str, str] = Field(default_factory=dict)
    shared_choices: bool = False
    output_strides: tuple[int, ...] = ()
    levels: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    device: str = "cpu"
    existing: bool = Field(
        default=False, description="Whether it is an object of a program, which no name finds again."
    )


class PartPlace(Model):
    """Where a part was found in a whole network, by the names of the candidate."""

    part: str
    modules: tuple[str, ...] = Field(description="The outermost modules that are of this part alone.")
    inputs: tuple[str, ...] = Field(description="The values that it reads.")
    outputs: tuple[str, ...] = Field(description="Its results.")


class HeadVerdict(Model):
    """The verdict about the head of a network of another architecture."""

    found: PartPlace
    verdict: RunVerdict
    clauses: tuple[str, ...] = Field(description="Ids of the clauses that failed.")
    choices: tuple[str, ...] = Field(description="The choices that explain what differs.")
    nearest: Nearest | None


class Certificate(Result, Sparse, Document):
    """The decisions about a candidate."""

    left_out: ClassVar = ("found", "head")

    target: str
    variant: str | None = Field(description="The published network that it was judged against.")
    against: str | None = Field(default=None, description="The other target that it was judged against.")
    choices: dict[str, Json] = Field(description="Choices of the specification that differ from the variant's.")
    part: str | None
    found: PartPlace | None = Field(default=None, description="Where the part is, if the candidate is a whole network.")
    classes: int
    seed: int
    verdict: RunVerdict
    levels: dict[str, Verdict]
    cases: tuple[Case, ...]
    clauses: tuple[ClauseRecord, ...]
    nearest: Nearest | None
    first_divergence: FirstDivergence | None
    first_divergence_reason: str = Field(
        default="", description="Why no node is named although whole runs differ; else empty."
    )
    canaries: PlantedTotals = PlantedTotals(planted=0, killed=0)
    conditioning: tuple[Conditioning, ...] = ()
    steps: tuple[StepError, ...] = Field(default=(), description="In the order of the network.")
    counts: tuple[Counts, ...] = ()
    another_network: str | None = Field(default=None, description="Why this is another network altogether.")
    head: HeadVerdict | None = Field(default=None, description="Of another network: the verdict about its head.")
    specification: Specification | None = None
    settings: Settings = Settings()
    subjects: tuple[Subject, ...] = ()
    file: str | None = Field(default=None, description="SHA-256 of the file that was judged; null without one.")
    today: date | None = Field(default=None, description="The day on which the expiry of waivers was checked.")
    waivers_accepted: bool = Field(default=False, description="Whether a run with waivers counts as accepted.")
    versions: dict[str, str]
    seconds: float

    @property
    def reference(self) -> str:
        """Name of the network that the candidate was judged against."""
        return self.variant or self.against or ""

    @property
    def accepted(self) -> bool:
        """Whether it conforms; with waivers, only if those were accepted."""
        waived = self.verdict is RunVerdict.CONFORMS_WITH_WAIVERS and self.waivers_accepted
        return waived or self.verdict is RunVerdict.CONFORMS

    @property
    def exit_code(self) -> ExitCode:
        """The exit status of ``certify``."""
        return ExitCode.DONE if self.accepted else _EXIT_CODES[self.verdict]

    @property
    def text(self) -> str:
        """The report that ``certify`` prints."""
        from deeplab_spec.judge.text import text

        return text(self)

    @property
    def summary(self) -> str:
        """The verdict, on whom, and how many clauses ended how."""
        counts = Counter(clause.verdict.value.replace("_", " ") for clause in self.clauses)
        ended = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        return f"{self.verdict.value}: {self.target} against {self.reference}, {ended}"


def head_verdict(certificate: Certificate) -> HeadVerdict | None:
    """Return what a certificate of the head of another network says in short; None if the head was not found."""
    if certificate.found is None:
        return None
    failed = [clause for clause in certificate.clauses if clause.findings]
    choices = (finding.choice for clause in failed for finding in clause.findings if finding.choice)
    return HeadVerdict(
        found=certificate.found,
        verdict=certificate.verdict,
        clauses=tuple(clause.id for clause in failed),
        choices=tuple(dict.fromkeys(choices)),
        nearest=certificate.nearest,
    )

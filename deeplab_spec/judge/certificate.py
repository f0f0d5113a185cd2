"""The certificate: what was decided, as a document. Every view is made from it."""

from collections import Counter
from datetime import date
from typing import Final

from pydantic import Field

from deeplab_spec.exit_codes import ExitCode
from deeplab_spec.judge.finding import Finding, Json, RunVerdict, Verdict
from deeplab_spec.result import Result
from deeplab_spec.views.document import Document, Model

_EXIT_CODES: Final = {
    RunVerdict.CONFORMS: ExitCode.DONE,
    RunVerdict.CONFORMS_WITH_WAIVERS: ExitCode.DIFFERENT,
    RunVerdict.DEVIATES: ExitCode.DIFFERENT,
    RunVerdict.INCONCLUSIVE: ExitCode.UNDECIDED,
}


class WaiverRecord(Model):
    """A waiver that covers findings of a clause."""

    node: str = Field(description="Path of the findings that it may cover; a star is a part of one name.")
    reason: str
    expires: date = Field(description="The last day on which it holds.")
    covers: tuple[str, ...] = Field(description="Paths of the findings that it covers.")


class ClauseRecord(Model):
    """What was decided about one clause."""

    id: str
    level: str
    verdict: Verdict
    decisions: int = Field(description="Single decisions that were made.")
    required: int = Field(default=0, description="Single decisions that there were to make; fewer are no pass.")
    reason: str = Field(description="Why the clause is undecided or not applicable; else empty.")
    findings: tuple[Finding, ...]
    waivers: tuple[WaiverRecord, ...] = Field(
        default=(), description="Waivers that cover findings of it; waived is what they cover entirely."
    )


class Case(Model):
    """One configuration in which the candidate was run."""

    output_stride: int
    sizes: tuple[tuple[int, int], ...] = Field(description="Height and width of the images.")
    dtype: str
    device: str


class Nearest(Model):
    """The published network, and the choices on top of it, that is nearest."""

    variant: str
    choices: dict[str, Json]


class Values(Model):
    """A value in few numbers."""

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
    attribute: str = Field(description="What of it differs first.")
    expected: Json
    actual: Json
    smallest_input: SmallestInput | None = Field(
        default=None, description="Where its values differ on the specification's own values; null where they do not."
    )


class PlantedTotals(Model):
    """Faults that the run planted for the clauses that would pass, to see whether it refuses them."""

    planted: int
    killed: int = Field(description="How many were refused; a clause is undecided where one was not.")


class Conditioning(Model):
    """How well the drawn weights can tell faults from rounding."""

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


class BlockCounts(Model):
    """What one block costs: specified, then found."""

    path: str
    parameters: tuple[int, int]
    macs: tuple[int, int]


class Counts(Model):
    """What the network costs at one output stride: specified, then found."""

    output_stride: int
    size: tuple[int, int] = Field(description="Height and width of the image of the multiply-adds.")
    parameters: tuple[int, int]
    macs: tuple[int, int]
    differing: tuple[BlockCounts, ...] = Field(description="The blocks that do not cost what is specified.")


class Certificate(Result, Document):
    """What was decided about a candidate."""

    target: str
    variant: str | None = Field(description="The published network that it was held against.")
    against: str | None = Field(default=None, description="The other target that it was held against.")
    choices: dict[str, Json] = Field(description="Choices of the specification that differ from the variant's.")
    part: str | None
    classes: int
    seed: int
    verdict: RunVerdict
    levels: dict[str, Verdict]
    cases: tuple[Case, ...]
    clauses: tuple[ClauseRecord, ...]
    nearest: Nearest | None
    first_divergence: FirstDivergence | None
    first_divergence_reason: str = Field(
        default="", description="Why no node is named although something differs; else empty."
    )
    canaries: PlantedTotals = PlantedTotals(planted=0, killed=0)
    conditioning: tuple[Conditioning, ...] = ()
    counts: tuple[Counts, ...] = ()
    another_network: str | None = Field(default=None, description="Why this is another network altogether.")
    today: date | None = Field(default=None, description="The day on which waivers were held against their expiry.")
    waivers_accepted: bool = Field(default=False, description="Whether a run with waivers was good enough.")
    versions: dict[str, str]
    seconds: float

    @property
    def reference(self) -> str:
        """What the candidate was held against, as the user named it."""
        return self.variant or self.against or ""

    @property
    def accepted(self) -> bool:
        """Whether it conforms: with waivers, only where those were accepted."""
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

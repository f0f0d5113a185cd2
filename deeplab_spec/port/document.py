"""The JSON document of ``port``: what was moved, what has no partner, and the proof."""

from typing import Literal

from deeplab_spec.exit_codes import ExitCode
from deeplab_spec.result import Result
from deeplab_spec.views.document import Document, Model


class MoveModel(Model):
    """Where one tensor of the destination's state dict got its value from."""

    name: str
    sources: tuple[str, ...]
    action: Literal["copied", "folded", "unfolded", "shifted", "initialised", "kept"]
    permuted: bool


class CountsModel(Model):
    """Tensors of the destination by what was done; ``permuted`` counts those of any action."""

    copied: int
    folded: int
    unfolded: int
    shifted: int
    initialised: int
    kept: int
    permuted: int


class GapModel(Model):
    """Tensors that have no partner on the other side."""

    side: Literal["source", "destination"]
    path: str
    names: tuple[str, ...]
    reason: str


class DifferenceModel(Model):
    """A fact in which the two graphs differ: what the source has, and what the destination has."""

    path: str | None
    source_path: str
    attribute: str
    source: str
    destination: str


class RunModel(Model):
    """One comparison of the results in float64.

    ``engine``: the interpreter ran both graphs, or torch both modules; ``rounded``: with the weights as
    they are written, or before their rounding. ``error`` is relative, null where it is no finite number.
    """

    engine: Literal["interpreter", "torch"]
    size: tuple[int, int]
    rounded: bool
    bit_equal: bool
    error: float | None
    largest: float | None
    allowed: float
    equal: bool


class FirstModel(Model):
    """The first operation whose value differs."""

    path: str
    source_path: str
    error: float | None


class ProofModel(Model):
    """The proof by results; ``refused`` says which other size was not compared, and why."""

    equal: bool
    runs: tuple[RunModel, ...]
    refused: str
    first: FirstModel | None


class PortDocument(Result, Document):
    """The document of ``port``. ``written`` is null, and ``reason`` says why, where nothing was written.

    ``different``: the graphs differ; ``unequal``: the results do; ``another_network``: they are not of one
    family; ``no_partner``: tensors would be lost or stay without a value.
    """

    source: str
    destination: str
    weights: str | None
    output_stride: int
    classes: int
    size: tuple[int, int]
    torch: str
    verdict: Literal["moved", "different", "unequal", "another_network", "no_partner"]
    reason: str
    written: str | None
    dtypes: tuple[str, ...]
    counts: CountsModel
    notes: tuple[str, ...]
    gaps: tuple[GapModel, ...]
    differences: tuple[DifferenceModel, ...]
    proof: ProofModel | None
    parameters: tuple[MoveModel, ...]

    @property
    def exit_code(self) -> ExitCode:
        """The exit status of ``port``."""
        return ExitCode.DONE if self.verdict == "moved" else ExitCode.DIFFERENT

    @property
    def text(self) -> str:
        """The report that ``port`` prints."""
        from deeplab_spec.port.text import port_text

        return port_text(self)

    @property
    def summary(self) -> str:
        """The outcome, and between whom."""
        return f"{self.source} -> {self.destination}: {self.text.splitlines()[-1]}"

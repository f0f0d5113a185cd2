"""The JSON document of ``port``: the moved tensors, the tensors without a partner, and the proof."""

from typing import Literal

from deeplab_spec.result import ExitCode, Result
from deeplab_spec.views.document import Document, Model

Engine = Literal["interpreter", "torch"]
Owner = Literal["source", "destination"]
Verdict = Literal["moved", "different", "unequal", "another_network", "no_partner"]


class MoveModel(Model):
    """How one tensor of the destination's state dict got its value."""

    name: str
    sources: tuple[str, ...]
    action: Literal["copied", "folded", "unfolded", "shifted", "initialised", "kept"]
    permuted: bool


class CountsModel(Model):
    """Numbers of the destination's tensors by action; ``permuted`` counts across all actions."""

    copied: int
    folded: int
    unfolded: int
    shifted: int
    initialised: int
    kept: int
    permuted: int


class GapModel(Model):
    """Tensors without a partner on the other side.

    ``path`` is their operation, empty if unknown; ``names`` are their names in that side's state.
    """

    side: Owner
    path: str
    names: tuple[str, ...]
    reason: str


class DifferenceModel(Model):
    """An attribute in which the two graphs differ, with the values of both."""

    path: str | None
    source_path: str
    attribute: str
    source: str
    destination: str


class RunModel(Model):
    """One comparison of the results in float64.

    ``engine``: the interpreter ran both graphs, or torch ran both modules. ``rounded``: the destination had
    the weights as they are written, or before rounding. ``error`` is the largest relative root mean square
    error of an output, ``largest`` the largest difference of two elements; null if not finite.
    """

    engine: Engine
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
    """The proof by results; ``refused`` is the size that was not compared, with the reason."""

    equal: bool
    runs: tuple[RunModel, ...]
    refused: str
    first: FirstModel | None


class PortDocument(Result, Document):
    """The document of ``port``. If nothing was written, ``written`` is null and ``reason`` says why.

    Verdicts: ``different``, the graphs differ; ``unequal``, the results differ; ``another_network``, the
    networks are not of one family; ``no_partner``, tensors would be lost or have no value. ``advice`` is the command
    that would move the weights, if one is known.
    """

    source: str
    destination: str
    weights: str | None
    output_stride: int
    classes: int
    size: tuple[int, int]
    torch: str
    verdict: Verdict
    reason: str
    written: str | None
    dtypes: tuple[str, ...]
    counts: CountsModel
    notes: tuple[str, ...]
    gaps: tuple[GapModel, ...]
    differences: tuple[DifferenceModel, ...]
    proof: ProofModel | None
    parameters: tuple[MoveModel, ...]
    advice: str = ""

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
        """Both networks and the result."""
        return f"{self.source} -> {self.destination}: {self.text.splitlines()[-1]}"

"""The JSON document of ``certify --matrix``: the certificate of every cell."""

from collections import Counter
from typing import Final

from pydantic import Field

from deeplab_spec.judge.certificate import Certificate
from deeplab_spec.result import ExitCode
from deeplab_spec.views.document import Document, Model

COULD_NOT_RUN: Final = "could not run"

WORST_FIRST: Final = (ExitCode.COULD_NOT_RUN, ExitCode.DIFFERENT, ExitCode.UNDECIDED, ExitCode.DONE)
"""The exit status of a matrix is the first of these that a cell has."""


class Judged(Model):
    """A cell with its result."""

    id: str
    target: str = Field(description="Its name in the file, or the target itself.")
    output_stride: int
    column: str = Field(description="The level, and the lower precision.")
    reason: str = Field(default="", description="Why it could not run; else empty.")
    certificate: Certificate | None = Field(description="Without its time; null if it could not run.")

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        return self.certificate.verdict.value if self.certificate else COULD_NOT_RUN

    @property
    def exit_code(self) -> ExitCode:
        """The exit status of its ``certify``."""
        return self.certificate.exit_code if self.certificate else ExitCode.COULD_NOT_RUN


class MatrixDocument(Document):
    """The certificates of a matrix."""

    cells: tuple[Judged, ...]

    @property
    def counts(self) -> Counter[str]:
        """The number of cells by verdict."""
        return Counter(cell.verdict for cell in self.cells)

    @property
    def exit_code(self) -> ExitCode:
        """The worst exit status of a cell."""
        return min((cell.exit_code for cell in self.cells), key=WORST_FIRST.index)

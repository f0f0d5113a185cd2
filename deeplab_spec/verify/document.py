"""The result of ``verify`` as a JSON document and as text."""

from typing import Final

from pydantic import Field

from deeplab_spec.judge.finding import RunVerdict
from deeplab_spec.result import ExitCode, Result
from deeplab_spec.views.document import Document, Model

MOST_PROBLEMS: Final = 20
"""The number of problems in the text; the JSON document has all."""

Reason = tuple[str, str]
"""Why a certificate is refused: the field or the clause, and what is wrong there."""


class Problem(Model):
    """One reason to refuse a certificate."""

    where: str = Field(description="The field or the clause.")
    problem: str


class VerifyDocument(Result, Document):
    """Whether a certificate is what it says."""

    certificate: str = Field(description="The file.")
    target: str | None = Field(description="What it certifies; null if it could not be read.")
    verdict: RunVerdict | None = Field(description="What it says about it.")
    checked: tuple[str, ...] = Field(description="What was checked, and in which way.")
    problems: tuple[Problem, ...] = Field(description="Why it is refused; empty if it is verified.")

    @property
    def exit_code(self) -> ExitCode:
        """The exit status of ``verify``."""
        return ExitCode.DIFFERENT if self.problems else ExitCode.DONE

    @property
    def summary(self) -> str:
        """The result in one line."""
        if self.problems:
            return f"REFUSED: {self.problems[0].where}: {self.problems[0].problem}"
        return f"VERIFIED: {self.target} {self.verdict}"

    @property
    def text(self) -> str:
        """What was checked, and every reason to refuse: the report that ``verify`` prints."""
        lines = [f"{self.certificate}: {self.target or 'no certificate'}"]
        lines += [f"  checked: {each}" for each in self.checked]
        lines += [f"  {each.where}: {each.problem}" for each in self.problems[:MOST_PROBLEMS]]
        if len(self.problems) > MOST_PROBLEMS:
            lines.append(f"  and {len(self.problems) - MOST_PROBLEMS} more")
        if self.problems:
            return "\n".join([*lines, "REFUSED: the certificate does not prove what it says."])
        return "\n".join([*lines, f"VERIFIED: {self.target} {self.verdict}."])

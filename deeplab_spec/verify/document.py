"""The result of ``verify`` as a JSON document."""

from pydantic import Field

from deeplab_spec.judge.finding import RunVerdict
from deeplab_spec.result import ExitCode, Result
from deeplab_spec.views.document import Document, Model


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
        """The report that ``verify`` prints."""
        from deeplab_spec.verify.text import text

        return text(self)

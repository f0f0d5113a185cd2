"""What every result of the public functions has in common, and what the exit status of a command means."""

from abc import ABC, abstractmethod
from enum import IntEnum
from html import escape


class ExitCode(IntEnum):
    """The exit status of a command."""

    DONE = 0
    """Done, or equal."""
    DIFFERENT = 1
    """Different, not proven, or a check failed."""
    USAGE = 2
    """The arguments do not say what to do."""
    COULD_NOT_RUN = 3
    """A target cannot be imported, built or read."""
    UNDECIDED = 4
    """Nothing failed, but something required is undecided."""


class Result(ABC):
    """A result: one line in a console, the report in a notebook, and the exit status of its command."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """The result in one line."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The report that the command prints."""

    @property
    def exit_code(self) -> ExitCode:
        """The exit status of the command that gives this result."""
        return ExitCode.DONE

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.summary})"

    def _repr_html_(self) -> str:
        """Return the report for a notebook."""
        return f"<pre style='line-height: 1.3'>{escape(self.text)}</pre>"
